"""`protomask export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.exporting.agreement import Agreement

EXAMPLE = "protomask export yolact_nano --format openvino --output nano.xml"
POSITIONAL = ("model",)


def run(
    model: str,
    *,
    format: Literal["onnx", "openvino", "pt2", "aotinductor", "litert", "executorch", "ncnn", "web"] = "onnx",
    output: str | None = None,
    weights: str | None = None,
    form: Literal["detections", "candidates"] | None = None,
    half: bool = False,
    images: str | None = None,
    verify_images: int = 32,
    data: str | None = None,
    score_threshold: float = 0.3,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    dynamic_batch: bool = False,
    int8: bool = False,
    calibration: str | None = None,
    calibration_images: int = 300,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    nms: Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"] | None = None,
    overlap: Literal["box_iou", "mask_iou", "mask_smaller"] | None = None,
    crop: Literal["box", "none"] | None = None,
    crop_margin: float | None = None,
    candidate_threshold: float | None = None,
    search_depth: int | None = None,
    golden: str | None = None,
    licence: str | None = None,
    runtime_files: str | None = None,
    json: bool = False,
) -> int:
    """Write a model to one file that runs without PyTorch, and verify it against PyTorch.

    Args:
        model: zoo name, weights file, run folder or hf:// address. With --weights, the zoo name of the network in that
            file.
        format: kind of file: onnx (also for TensorRT), openvino (an .xml and a .bin), pt2 (a program of torch.export),
            aotinductor (the same, compiled for processors like this one; needs a C++ compiler), litert, executorch
            or ncnn (for phones and small devices; ncnn only in the form candidates), or web: a folder for any static
            host with a page that runs the model in the browser. It takes exported .onnx files, too.
        output: file to write; the model's name with the ending of the format by default, the folder site for web.
        weights: file of another codebase that does not say which network it holds: the model does.
        form: where the graph ends: detections goes from the pixels of an image to masks, for any runtime; candidates
            ends before NMS, and protomask does the rest with the options of each prediction. By default detections; for
            web candidates, if the model supports it.
        half: store the weights of an ONNX file of candidates in half precision, which halves it.
        images: images, or a folder of them, to verify the file with; by default those of --data, or else the sample
            images.
        verify_images: maximum number of these images on which detections are compared, spread over all.
        data: annotated data set; the AP of PyTorch and of the file are compared on its val split.
        score_threshold: detections of PyTorch and of the file above this score must be the same, one by one.
        mask_size: height and width of the masks in the file, for example [480,640]; the prototypes' by default.
        fixed_size: take only images of the network's size instead of resizing them (for TensorRT).
        dynamic_batch: take any number of images of the same size at once; every output then has an additional first
            dimension. Files of candidates always do.
        int8: compute the network in 8 bits; needs --calibration.
        calibration: images like those the model will see, or a folder of them; a few hundred are enough.
        calibration_images: maximum number of these images to use, spread over all.
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        max_detections: maximum number of instances that the file finds; the model's own by default.
        nms: kind of non-maximum suppression; the model's own by default.
        overlap: what NMS compares, as for predict; the model's own by default.
        crop: how masks are cut out, as for predict; the model's own by default.
        crop_margin: how much wider than the box they are cut, as for predict; the model's own by default.
        candidate_threshold: anchors with a lower class score are ignored; the model's own by default.
        search_depth: number of best pairs of an anchor and a class that NMS in the file considers; by default all, or,
            if that would be slow, as many as the images need.
        golden: image that is stored in the file with some numbers of what the file must return for it, for protomask
            verify; by default one of the sample images.
        licence: licence of the weights, to be written into the file; already known for zoo models.
        runtime_files: of web: the npm package onnxruntime-web, as a folder or .tgz; by default npm fetches it, once.
        json: print one JSON document instead of text.
    """
    from pathlib import Path

    from protomask.cli.export_file import write_file
    from protomask.detection.options import PredictOptions
    from protomask.errors import ConfigError
    from protomask.runtimes.formats import SUFFIXES

    if int8 != (calibration is not None):
        raise ConfigError("calibration: expected a folder of images with --int8, and none without")
    if runtime_files is not None and format != "web":
        raise ConfigError(f"runtime_files: expected none for {format}, which has no page")
    target = Path(output or _default_output(weights or model, format, int8=int8))
    if format != "web" and not target.name.endswith(SUFFIXES[format]):
        raise ConfigError(f"output: expected a file name ending in {SUFFIXES[format]} for {format}, got {target}")
    if format == "web" and dynamic_batch:
        raise ConfigError("dynamic_batch: expected none for web, whose page looks at one image at a time")
    options = PredictOptions(
        score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections, nms=nms,
        overlap=overlap, candidate_threshold=candidate_threshold, crop=crop, crop_margin=crop_margin,
    )  # fmt: skip
    chosen = None if calibration is None else _spread(calibration, calibration_images)
    settings: dict[str, Any] = {
        "images": images, "data": data, "form": form, "precision": "float16" if half else "float32",
        "calibration": chosen, "mask_size": mask_size, "fixed_size": fixed_size, "search_depth": search_depth,
        "dynamic_batch": dynamic_batch, "golden": golden, "verify_images": verify_images, "licence": licence,
        "options": options,
    }  # fmt: skip
    if format != "web":
        settings["format"] = format
        _report(target, *write_file(model, weights, target, settings, quiet=json), int8=int8, json=json)
        return 0
    from protomask.cli.export_web import export_page

    untouched = PredictOptions(score_threshold=score_threshold)
    is_changed = weights or form or half or data or mask_size or fixed_size or int8 or options != untouched
    exported = export_page(
        model, weights, target, settings, is_changed=bool(is_changed), runtime_files=runtime_files, quiet=json
    )
    _report(target, *exported, int8=int8, json=json)
    return 0


def _default_output(source: str, format: str, *, int8: bool) -> str:
    from pathlib import Path

    from protomask.runtimes.formats import SUFFIXES

    if format == "web":
        return "site"
    compiled = "_aotinductor" if format == "aotinductor" else ""
    return f"{Path(source).stem}{'_int8' if int8 else ''}{compiled}{SUFFIXES[format]}"


def _report(path: Path, name: str, agreement: Agreement | None, *, int8: bool, json: bool) -> None:
    import sys

    from protomask.cli.output import dump_json

    for warning in agreement.warnings if agreement else ():
        print(f"warning: {warning}", file=sys.stderr)
    if json:
        dump_json({"file": str(path), "agreement": agreement.to_dict() if agreement else None})
        return
    parts = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    if path.suffix in (".xml", ".param"):
        parts.append(path.with_suffix(".bin"))
    size = sum(part.stat().st_size for part in parts)
    print(f"{path}: {name}, {size / 2**20:.1f} MiB")
    if agreement is None:
        return
    print(f"{'compared' if int8 else 'verified'} with PyTorch: {agreement}")
    for kind_of_ap, values in agreement.ap.items():
        shown = (
            f"{kind.replace('_', ' ')} {'-' if value is None else f'{value:.3f}'}" for kind, value in values.items()
        )
        print(f"{kind_of_ap}: {', '.join(shown)}")


def _spread(folder: str, count: int) -> list[Path]:
    """So many of the images in a folder, spread over all."""
    from protomask.errors import ConfigError
    from protomask.inference.paths import iter_image_paths

    if count < 1:
        raise ConfigError(f"calibration_images: expected at least 1, got {count}")
    paths = iter_image_paths([folder])
    return paths[:: max(1, len(paths) // count)][:count]
