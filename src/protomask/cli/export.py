"""`protomask export`."""

from __future__ import annotations

from typing import Any, Literal

EXAMPLE = "protomask export yolact_nano --format openvino --output nano.xml"
POSITIONAL = ("model",)
_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def run(
    model: str,
    *,
    format: Literal["onnx", "openvino"] = "onnx",
    output: str | None = None,
    weights: str | None = None,
    images: str | None = None,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    int8: bool = False,
    calibration: str | None = None,
    calibration_images: int = 300,
    data: str | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    nms: Literal["fast", "cross_class_fast", "batched"] | None = None,
    candidate_threshold: float | None = None,
    licence: str | None = None,
    json: bool = False,
) -> int:
    """Write a model to one file that goes from the pixels of an image to masks, and verify it against PyTorch.

    Args:
        model: zoo name or weights file. With --weights, the zoo name of the network in that file.
        format: onnx (also for TensorRT) or openvino (an .xml and a .bin).
        output: file to write; the model's name with the ending of the format by default.
        weights: weights file (.safetensors, or official .pth).
        images: images, or a folder of them, to verify the file with; the shipped scenes by default.
        mask_size: height and width of the masks in the file, for example [480,640]; the prototypes' by default.
        fixed_size: take images of the network's size alone instead of resizing them (for TensorRT).
        int8: compute the network in 8 bits; needs --calibration.
        calibration: images like those the model will see, or a folder of them; some hundred are enough.
        calibration_images: at most so many of them are used, spread over all.
        data: with --int8, measure AP before and after on this data set (its val split).
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        max_detections: how many instances the file finds at most; the model's own by default.
        nms: kind of non-maximum suppression; the model's own by default.
        candidate_threshold: anchors below this class score are not looked at; the model's own by default.
        licence: of the weights, to be written into the file; known for models of the zoo.
        json: print one JSON document instead of text.
    """
    from contextlib import ExitStack
    from importlib.resources import as_file, files
    from pathlib import Path

    from protomask.api import load
    from protomask.cli.output import dump_json, progress
    from protomask.errors import ConfigError
    from protomask.evaluation.evaluate import average_precisions, open_split
    from protomask.export.files import export
    from protomask.images.decode import read_image
    from protomask.inference.predictor import Predictor
    from protomask.inference.sources import iter_image_paths
    from protomask.runtimes.load import load_exported

    if int8 and calibration is None:
        raise ConfigError("calibration: expected a folder of images with --int8")
    for name, value in (("calibration", calibration), ("data", data)):
        if value is not None and not int8:
            raise ConfigError(f"{name}: expected with --int8 alone")
    if calibration_images < 1:
        raise ConfigError(f"calibration_images: expected at least 1, got {calibration_images}")
    stem = Path(model).stem if weights is None else Path(weights).stem
    path = Path(output or f"{stem}{'_int8' if int8 else ''}{_SUFFIXES[format]}")
    if path.suffix != _SUFFIXES[format]:
        raise ConfigError(f"output: expected a file name ending in {_SUFFIXES[format]} for {format}, got {path}")
    dataset = None if data is None else open_split(data)
    with ExitStack() as stack:
        shown = images or stack.enter_context(as_file(files("protomask") / "samples"))
        pixels = [read_image(image) for image in iter_image_paths([shown])]
    calibrating = None
    if calibration is not None:
        paths = iter_image_paths([calibration])
        step = max(1, len(paths) // calibration_images)
        calibrating = [read_image(image) for image in paths[::step][:calibration_images]]
    predictor = load(weights or model, model=model if weights else None, device="cpu")
    if not isinstance(predictor, Predictor):
        raise ConfigError(f"model: expected a PyTorch model, got the exported file {model}")
    agreement = export(
        predictor, path, images=pixels, calibration=calibrating, mask_size=mask_size, fixed_size=fixed_size,
        licence=licence,
        iou_threshold=iou_threshold, max_detections=max_detections, nms=nms, candidate_threshold=candidate_threshold,
    )  # fmt: skip
    report: dict[str, Any] = {"file": str(path), "agreement": agreement.to_dict()}
    if dataset is not None:
        compared = {"float32": predictor, "int8": load_exported(path)}
        with progress("AP", len(dataset) * len(compared), quiet=json) as bar:
            report["ap"] = average_precisions(compared, dataset, on_progress=bar.update)
    if json:
        dump_json(report)
        return 0
    parts = [path, path.with_suffix(".bin")] if format == "openvino" else [path]
    size = sum(part.stat().st_size for part in parts)
    print(f"{path}: {predictor.network.config.name}, {size / 2**20:.1f} MiB")
    print(f"{'compared' if int8 else 'verified'} with PyTorch: {agreement}")
    for name, values in report.get("ap", {}).items():
        print(f"{name}: " + ", ".join(f"{kind.replace('_', ' ')} {value:.3f}" for kind, value in values.items()))
    return 0
