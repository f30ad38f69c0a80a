"""`calibrate`: from a model and annotated images to a model whose scores mean something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from protomask.api import load
from protomask.defaults import DEFAULT_MODEL
from protomask.detection.calibration import CalibrationMethod
from protomask.detection.options import PredictChanges, PredictOptions, take_options
from protomask.extras import needing_torch, require_torch
from protomask.inference.predictor import Predictor
from protomask.models.naming import find_model

if TYPE_CHECKING:
    from protomask.evaluation.calibrate import CalibrationReport


def calibrate(
    model: Predictor | str | Path | None = None,
    *,
    data: str | Path,
    output: str | Path | None = None,
    split: str = "val",
    method: CalibrationMethod = "isotonic",
    check_share: float = 0.5,
    options: PredictOptions | None = None,
    num_workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    **changes: Unpack[PredictChanges],
) -> CalibrationReport:
    """Learn on annotated images what the scores of a model mean, so that a score is the IoU to expect of its mask.

    Args:
        model: a predictor, or what `load` takes.
        data: data set, as for `train`, of images that the model has not learned from.
        output: file to write with the calibration in it: .safetensors of weights, .onnx of an exported file or of a
            shipped model. None writes nothing: `Predictor.calibrated` makes a model of ``report.calibration``.
        split: part of the data set.
        method: "isotonic" follows the scores wherever they rise; "temperature" has one number, for a few images.
        check_share: share of the images held out of the fit, on which the scores are judged before and after.
        options: options of the predictions.
        num_workers: processes that load images; 0 loads them in this one.
        on_progress: called after each image.
        changes: fields of `PredictOptions`, which override ``options``.

    Returns:
        The calibration, and calibration error, mean error and rank correlation of the final scores before and after.

    Raises:
        DataError: the data set or an image cannot be read, there is too little to fit to, or the model lacks a class.
        ConfigError: an option is out of range, or the output does not fit the model.
        MissingExtraError: a package that measures AP is not installed.

    """
    require_torch("calibrating a model")
    settled = take_options(options, changes)
    with needing_torch("calibrating a model"):
        from protomask.calibrating.files import check_output, write_calibrated
        from protomask.data.coco.layout import open_dataset
        from protomask.evaluation.calibrate import calibrate as measure
        from protomask.evaluation.evaluate import open_split
    given = DEFAULT_MODEL if model is None else model
    source = given.source if isinstance(given, Predictor) else given
    if not isinstance(given, Predictor):
        find_model(given)
    open_dataset(data, (split,))
    if output is not None:
        check_output(source, Path(output))
    predictor = given if isinstance(given, Predictor) else load(given)
    report = measure(
        predictor.calibrated(None), open_split(str(data), split), name=Path(data).resolve().name, method=method,
        check_share=check_share, options=settled, num_workers=num_workers, on_progress=on_progress,
    )  # fmt: skip
    if output is not None:
        write_calibrated(source, Path(output), report.calibration)
    return report
