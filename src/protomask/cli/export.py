"""`protomask export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

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
    verify_images: int = 32,
    data: str | None = None,
    score_threshold: float = 0.3,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    int8: bool = False,
    calibration: str | None = None,
    calibration_images: int = 300,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    nms: Literal["fast", "cross_class_fast", "batched"] | None = None,
    candidate_threshold: float | None = None,
    search_depth: int | None = None,
    licence: str | None = None,
    json: bool = False,
) -> int:
    """Write a model to one file that runs without PyTorch, and verify it against PyTorch.

    Args:
        model: zoo name, weights file, run folder or hf:// address. With --weights, the zoo name of the network in that
            file.
        format: file format: onnx (also for TensorRT) or openvino (an .xml and a .bin).
        output: file to write; the model's name with the ending of the format by default.
        weights: file of another codebase that does not say which network it holds: the model does.
        form: where the graph ends: detections goes from the pixels of an image to masks, for any runtime; candidates
            ends before NMS, and protomask does the rest with whatever options a prediction has.
        half: store the weights of an ONNX file of candidates in half precision, which halves it.
        images: images, or a folder of them, to verify the file with; by default those of --data, or else the shipped
            scenes.
        verify_images: maximum number of them that detections are compared on, spread over all.
        data: annotated data set; the AP of PyTorch and of the file are compared on its val split.
        score_threshold: detections of PyTorch and of the file above this score must be the same, one by one.
        mask_size: height and width of the masks in the file, for example [480,640]; the prototypes' by default.
        fixed_size: take only images of the network's size instead of resizing them (for TensorRT).
        int8: compute the network in 8 bits; needs --calibration.
        calibration: images like those the model will see, or a folder of them; some hundred are enough.
        calibration_images: maximum number of them that is used, spread over all.
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        max_detections: maximum number of instances that the file finds; the model's own by default.
        nms: kind of non-maximum suppression; the model's own by default.
        candidate_threshold: anchors below this class score are not looked at; the model's own by default.
        search_depth: number of pairs of an anchor and a class, the best, that NMS in the file looks at; by default all,
            or, where that would be slow, as many as the images need.
        licence: licence of the weights, to be written into the file; known for models of the zoo.
        json: print one JSON document instead of text.
    """
    import sys
    from pathlib import Path

    from protomask.api import export, load
    from protomask.cli.output import dump_json, progress
    from protomask.detection.options import PredictOptions
    from protomask.errors import ConfigError

    if int8 != (calibration is not None):
        raise ConfigError("calibration: expected a folder of images with --int8, and none without")
    path = Path(output or f"{Path(weights or model).stem}{'_int8' if int8 else ''}{_SUFFIXES[format]}")
    if path.suffix != _SUFFIXES[format]:
        raise ConfigError(f"output: expected a file name ending in {_SUFFIXES[format]} for {format}, got {path}")
    options = PredictOptions(
        score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections, nms=nms,
        candidate_threshold=candidate_threshold,
    )  # fmt: skip
    _check_names(weights or model, path, images, data)
    chosen = None if calibration is None else _spread(calibration, calibration_images)
    predictor = load(weights or model, runtime="torch", model=model if weights else None, device="cpu")
    with progress("AP", None, quiet=json or data is None) as bar:
        agreement = export(
            predictor, path, images=images, data=data, form=form, precision="float16" if half else "float32",
            calibration=chosen, mask_size=mask_size, fixed_size=fixed_size, search_depth=search_depth,
            verify_images=verify_images, licence=licence, on_progress=bar.update, options=options,
        )  # fmt: skip
    for warning in agreement.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if json:
        dump_json({"file": str(path), "agreement": agreement.to_dict()})
        return 0
    parts = [path, path.with_suffix(".bin")] if format == "openvino" else [path]
    size = sum(part.stat().st_size for part in parts)
    print(f"{path}: {predictor.model_name}, {size / 2**20:.1f} MiB")
    print(f"{'compared' if int8 else 'verified'} with PyTorch: {agreement}")
    for name, values in agreement.ap.items():
        shown = (
            f"{kind.replace('_', ' ')} {'-' if value is None else f'{value:.3f}'}" for kind, value in values.items()
        )
        print(f"{name}: {', '.join(shown)}")
    return 0


def _check_names(source: str, output: Path, images: str | None, data: str | None) -> None:
    """Names and paths first: nothing heavy is imported for a wrong one."""
    from protomask.data.coco.layout import open_dataset
    from protomask.errors import ConfigError
    from protomask.extras import require_torch
    from protomask.files import check_writable
    from protomask.inference.sources import open_source
    from protomask.models.naming import find_model

    require_torch("protomask export")
    if find_model(source).kind == "exported":
        raise ConfigError(f"model: expected a name or weights to export, got the exported file {source}")
    if images is not None:
        open_source(images)
    if data is not None:
        open_dataset(data, ("val",))
    check_writable(output, "output")


def _spread(folder: str, count: int) -> list[Path]:
    """So many of the images in a folder, spread over all."""
    from protomask.errors import ConfigError
    from protomask.inference.paths import iter_image_paths

    if count < 1:
        raise ConfigError(f"calibration_images: expected at least 1, got {count}")
    paths = iter_image_paths([folder])
    return paths[:: max(1, len(paths) // count)][:count]
