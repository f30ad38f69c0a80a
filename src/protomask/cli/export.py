"""`protomask export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.inference.predictor import Predictor

EXAMPLE = "protomask export yolact_nano --format openvino --output nano.xml"
POSITIONAL = ("model",)
_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def run(
    model: str,
    *,
    format: Literal["onnx", "openvino"] = "onnx",
    output: str | None = None,
    weights: str | None = None,
    form: Literal["detections", "candidates"] = "detections",
    half: bool = False,
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
    """Write a model to one file that runs without PyTorch, and verify it against PyTorch.

    Args:
        model: zoo name or weights file. With --weights, the zoo name of the network in that file.
        format: file format: onnx (also for TensorRT) or openvino (an .xml and a .bin).
        output: file to write; the model's name with the ending of the format by default.
        weights: weights file (.safetensors, or official .pth).
        form: where the graph ends: detections goes from the pixels of an image to masks, for any runtime; candidates
            ends before NMS, and protomask does the rest with whatever options a prediction has.
        half: store the weights of an ONNX file of candidates in half precision, which halves it.
        images: images, or a folder of them, to verify the file with; the shipped scenes by default.
        mask_size: height and width of the masks in the file, for example [480,640]; the prototypes' by default.
        fixed_size: take only images of the network's size instead of resizing them (for TensorRT).
        int8: compute the network in 8 bits; needs --calibration.
        calibration: images like those the model will see, or a folder of them; some hundred are enough.
        calibration_images: maximum number of them that is used, spread over all.
        data: with --int8, measure AP before and after on this data set (its val split).
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        max_detections: maximum number of instances that the file finds; the model's own by default.
        nms: kind of non-maximum suppression; the model's own by default.
        candidate_threshold: anchors below this class score are not looked at; the model's own by default.
        licence: licence of the weights, to be written into the file; known for models of the zoo.
        json: print one JSON document instead of text.
    """
    from pathlib import Path

    from protomask.api import export, load
    from protomask.cli.output import dump_json
    from protomask.detection.options import PredictOptions
    from protomask.errors import ConfigError

    if int8 != (calibration is not None):
        raise ConfigError("calibration: expected a folder of images with --int8, and none without")
    if data is not None and not int8:
        raise ConfigError("data: expected only with --int8")
    path = Path(output or f"{Path(weights or model).stem}{'_int8' if int8 else ''}{_SUFFIXES[format]}")
    if path.suffix != _SUFFIXES[format]:
        raise ConfigError(f"output: expected a file name ending in {_SUFFIXES[format]} for {format}, got {path}")
    chosen = None if calibration is None else _spread(calibration, calibration_images)
    predictor = load(weights or model, runtime="torch", model=model if weights else None, device="cpu")
    agreement = export(
        predictor, path, images=images, form=form, precision="float16" if half else "float32", calibration=chosen,
        mask_size=mask_size, fixed_size=fixed_size, licence=licence,
        options=PredictOptions(
            iou_threshold=iou_threshold, max_detections=max_detections, nms=nms,
            candidate_threshold=candidate_threshold,
        ),
    )  # fmt: skip
    report: dict[str, Any] = {"file": str(path), "agreement": agreement.to_dict()}
    if data is not None:
        report["ap"] = _average_precisions(predictor, path, data, quiet=json)
    if json:
        dump_json(report)
        return 0
    parts = [path, path.with_suffix(".bin")] if format == "openvino" else [path]
    size = sum(part.stat().st_size for part in parts)
    print(f"{path}: {predictor.model_name}, {size / 2**20:.1f} MiB")
    print(f"{'compared' if int8 else 'verified'} with PyTorch: {agreement}")
    for name, values in report.get("ap", {}).items():
        print(f"{name}: " + ", ".join(f"{kind.replace('_', ' ')} {value:.3f}" for kind, value in values.items()))
    return 0


def _spread(folder: str, count: int) -> list[Path]:
    """So many of the images in a folder, spread over all."""
    from protomask.errors import ConfigError
    from protomask.inference.paths import iter_image_paths

    if count < 1:
        raise ConfigError(f"calibration_images: expected at least 1, got {count}")
    paths = iter_image_paths([folder])
    return paths[:: max(1, len(paths) // count)][:count]


def _average_precisions(predictor: Predictor, path: Path, data: str, *, quiet: bool) -> dict[str, Any]:
    from protomask.api import load
    from protomask.cli.output import progress
    from protomask.evaluation.evaluate import average_precisions, open_split

    dataset = open_split(data)
    with progress("AP", 2 * len(dataset), quiet=quiet) as bar:
        return average_precisions({"float32": predictor, "int8": load(path)}, dataset, on_progress=bar.update)
