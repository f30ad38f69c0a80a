"""`protomask calibrate`."""

from __future__ import annotations

from typing import Literal

EXAMPLE = "protomask calibrate runs/shapes --data shapes --output shapes.safetensors"
POSITIONAL = ("model",)


def run(
    model: str,
    *,
    data: str,
    output: str | None = None,
    split: str = "val",
    method: Literal["isotonic", "temperature"] = "isotonic",
    check_share: float = 0.5,
    max_detections: int = 100,
    tile: int | None = None,
    num_workers: int = 2,
    json: bool = False,
) -> int:
    """Learn what the scores of a model mean: afterwards a score is the IoU to expect of its mask.

    Args:
        model: zoo name, weights file, run folder, exported .onnx file or hf:// address.
        data: data set of images that the model was not trained on, a folder with annotations/SPLIT.json and
            images/SPLIT/, or a YAML naming these paths.
        output: file to write with the calibration in it, .safetensors of weights, .onnx of an exported file or of a
            shipped model; nothing is written by default.
        split: part of the data set.
        method: what is fitted: isotonic, any rising curve; temperature, a single number, for few images.
        check_share: share of the images held out of the fit, on which the scores are judged before and after.
        max_detections: maximum number of detections that count per image, as for eval.
        tile: cut images into tiles with sides of this many pixels, as predict does; not by default.
        num_workers: processes that load images; 0 loads them in this one.
        json: print one JSON document instead of tables.
    """
    from protomask.calibrating.calibrate import calibrate
    from protomask.cli.output import dump_json, print_table, progress

    with progress("calibrate", None, quiet=json) as bar:
        report = calibrate(
            model, data=data, output=output, split=split, method=method, check_share=check_share,
            max_detections=max_detections, tile=tile, num_workers=num_workers, on_progress=bar.update,
        )  # fmt: skip
    if json:
        dump_json({**report.to_dict(), "output": output})
        return 0
    fitted = report.calibration
    print(f"fitted to {fitted.detections} detections in {fitted.images} images")
    title = f"final scores of {report.check_detections} detections in {report.check_images} other images"
    print_table(["against mask IoU", "before", "after"], [list(row) for row in report.rows()], title=title)
    precisions = (0.5, 0.75, 0.9, 0.95)
    rows = [
        [name, *(_shown(float(fitted.thresholds_for(one, (name,))[0])) for one in precisions)]
        for name in fitted.thresholds
    ]
    print_table(["class", *(f"{one:g}" for one in precisions)], rows, title="threshold for a precision of")
    if output is not None:
        print(f"calibrated model: {output}")
    return 0


def _shown(threshold: float) -> str:
    """A threshold that no score passes is none."""
    return "-" if threshold >= 1 else f"{threshold:.3f}"
