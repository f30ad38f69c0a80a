"""What errors mean and what helps against them, for the page; `docs/evaluate.md` says more."""

from __future__ import annotations

from protomask.evaluation.errors.report import ErrorReport

MEANINGS: dict[str, str] = {
    "classification": "right place, wrong class",
    "localisation": "right class, IoU of 0.1 to 0.5",
    "both": "wrong class, IoU of 0.1 to 0.5",
    "duplicate": "right, but a better detection has the object",
    "background": "no object there",
    "missed": "an object that nothing above is about",
    "merged": "one mask over several objects",
    "split": "one of several masks in an object",
    "cut by the box": "a tenth of the object or more is outside the box",
    "leakage": "a tenth of the mask or more is off the object",
    "boundary only": "IoU below 0.75 only for its outline",
    "other": "IoU below 0.75 for another reason",
}
REMEDIES: dict[str, str] = {
    "classification": "more images of the classes that are mixed up; check the labels; more iterations",
    "localisation": "a larger image_size; more iterations",
    "both": "more images of these objects; more iterations",
    "duplicate": "overlap=mask_iou; a lower iou_threshold",
    "background": "a higher score_threshold, or threshold_for a precision; images without objects in training; "
    "annotate what was forgotten",
    "missed": "a lower score_threshold; a larger image_size, or tile, for small ones; more max_detections in crowds",
    "merged": "crop=component; exclusive=score; a larger image_size; more crowded images or copy_paste in training",
    "split": "a lower iou_threshold; a smaller image_size, or no tile, for large objects",
    "cut by the box": "crop_margin=0.1 with crop=component; more iterations: boxes are too small or in the wrong place",
    "leakage": "crop=component; exclusive=score; more iterations: boxes are too large; more prototypes; "
    "more crowded images",
    "boundary only": "edges=pixels; a larger image_size; one more upsampling of the prototypes (protonet_upsamplings)",
    "other": "more images of these objects; more prototypes (num_prototypes)",
}
"""Settings of prediction and of training that work against an error."""
_SHOWN, _LEAST = 6, 0.0005


def remedy_rows(report: ErrorReport) -> list[tuple[str, float, str]]:
    """(error, AP that it costs, what to try), the most expensive first; only what costs something."""
    costs = {name: tally.AP_cost for tallies in report.tallies().values() for name, tally in tallies.items()}
    ranked = sorted(costs, key=lambda name: -costs[name])
    return [(name, costs[name], REMEDIES[name]) for name in ranked[:_SHOWN] if costs[name] >= _LEAST]
