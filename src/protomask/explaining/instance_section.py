"""The part of the page about one instance."""

from __future__ import annotations

from collections import Counter
from html import escape

import numpy as np

from protomask.charts.drawing import Chart
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.charts.signed import SignedBar, signed_bars
from protomask.explaining import overlays
from protomask.explaining.overlays import LARGE, OUTCOME_COLORS, SMALL, View
from protomask.explaining.results import (
    Competitor,
    Explanation,
    Floats,
    InstanceFacts,
    Outcome,
    PositionFacts,
    PrototypeSum,
    RegionFacts,
)
from protomask.explaining.shots import Shots, rows_of_shots
from protomask.reports.markup import columns, html_table, tiles

_BARS, _RIVALS, _CONTRIBUTIONS = 16, 10, 8
_WORDS: dict[Outcome, str] = {
    "kept": "kept", "suppressed": "suppressed by NMS", "below threshold": "below the score threshold",
    "beyond limit": "beyond a limit of detections",
}  # fmt: skip


def instance_section(explanation: Explanation, facts: InstanceFacts, shots: Shots) -> str:
    """HTML of one instance: numbers, mask, competition."""
    one = explanation.found[[facts.number]]
    image = View.whole(explanation.pixels, LARGE)
    parts = [tiles(_numbers(explanation, facts))]
    if facts.prototype_sum is not None:
        parts.append(_prototype_mask(explanation, facts, facts.prototype_sum, shots, image))
    if facts.region is not None:
        parts.append(_region_mask(explanation, facts, facts.region, shots, image))
    if facts.positions is not None:
        parts.append(_voted_mask(explanation, facts, facts.positions, shots, image))
    probs = [[name, round(value, 4)] for name, value in facts.class_probs]
    place = _place(facts)
    classes = html_table(["class", "probability"], probs, f"Likeliest classes of its {place}")
    parts.append(_competition(explanation, facts, shots, one.names[0]))
    parts.append(f'<div class="tables">{_rivals_table(explanation, facts, place)}{classes}</div>')
    return "".join(parts)


def _numbers(explanation: Explanation, facts: InstanceFacts) -> list[tuple[str, str]]:
    one = explanation.found[[facts.number]]
    values = [("score", f"{one.scores[0]:.3f}"), ("class score", f"{one.class_scores[0]:.3f}")]
    if one.mask_scores is not None:
        values.append(("mask score", f"{one.mask_scores[0]:.3f}"))
    if explanation.truth is not None:
        values.append(("IoU with the truth", "no object" if facts.truth is None else f"{facts.truth.iou:.3f}"))
        if facts.truth is not None and facts.truth.name != one.names[0]:
            values.append(("class of the truth", facts.truth.name))
    if facts.prototype_sum is not None:
        values.append(("outside the box before the crop", f"{facts.prototype_sum.leakage:.1%}"))
    values.append(("suppressed candidates", str(facts.count("suppressed"))))
    return values


def _prototype_mask(
    explanation: Explanation, facts: InstanceFacts, total: PrototypeSum, shots: Shots, image: View
) -> str:
    prefix, box = f"instance_{facts.number}", _box(explanation, facts)
    near = View.near(explanation.pixels, box, LARGE)
    final = overlays.mask_over(near, explanation.found[[facts.number]].masks[0])
    leaked = (
        f"{total.leaked_pixels} pixels of the mask lie outside the box; the crop removes them (orange)."
        if total.leaked_pixels
        else "Nothing lies outside the box: the crop removes nothing."
    )
    figures = [
        shots.figure(
            f"{prefix}_sum", overlays.with_box(overlays.heat(image, total.uncropped, most=1.0), box),
            "<b>The sum</b> of all prototypes, as a probability", alt="Probabilities before the crop",
        ),
        shots.figure(
            f"{prefix}_before_crop",
            overlays.with_box(overlays.mask_parts(image, total.uncropped, total.window), box),
            f"<b>Before the crop.</b> {leaked}", alt="Mask before the crop",
        ),
        shots.figure(
            f"{prefix}_mask", overlays.with_box(final, box), f"<b>The mask</b> that is given{_nearby(near)}",
            alt="Final mask",
        ),
    ]  # fmt: skip
    return (
        f"<h3>From prototypes to the mask</h3>{rows_of_shots(figures, 'wide')}"
        f"{columns([_bars(explanation, total), _growth_chart(total)])}"
        f"<h4>What the strongest prototypes add</h4>{_additions(explanation, facts, total, shots)}"
        f"<h4>The mask as prototypes are added</h4>{_growth(explanation, facts, total, shots)}"
    )


def _bars(explanation: Explanation, total: PrototypeSum) -> Chart:
    kinds = {one.number: one.kind for one in explanation.prototypes}
    shown = total.order[:_BARS].tolist()
    return signed_bars(
        [SignedBar(f"#{k} {kinds[k]}", float(total.inside[k]), float(total.around[k])) for k in shown],
        title="Signed contributions",
        label="coefficient × prototype, mean over cells",
        notes=["Thick: on the mask. Thin: in the box beside it.", *_left_out(len(total.order) - len(shown))],
    )


def _left_out(count: int) -> list[str]:
    return [f"The {count} weakest prototypes are not shown."] if count > 0 else []


def _growth_chart(total: PrototypeSum) -> Chart:
    points = [(step + 1.0, float(iou)) for step, iou in enumerate(total.growth)]
    enough = next((step for step, iou in points if iou >= 0.95), None)
    note = "" if enough is None else f"The first {enough:g} of {len(points)} give an IoU of 0.95 or more."
    return line_chart(
        [Series(name="IoU", points=points, marks=len(points) <= 40)],
        title="How many prototypes the mask needs",
        x=Axis(label="prototypes added, the strongest first"),
        y=Axis(label="IoU with the final mask", span=(0.0, 1.0)),
        height=300,
        notes=[note] if note else [],
    )


def _additions(explanation: Explanation, facts: InstanceFacts, total: PrototypeSum, shots: Shots) -> str:
    maps = explanation.prototype_maps
    assert maps is not None
    image = View.whole(explanation.pixels, SMALL)
    shown = total.order[:_CONTRIBUTIONS].tolist()
    most = max((float(np.abs(maps[:, :, k] * total.coefficients[k]).max()) for k in shown), default=0.0)
    figures = [
        shots.figure(
            f"instance_{facts.number}_adds_{k:03d}",
            overlays.with_box(
                overlays.signed_heat(image, maps[:, :, k] * total.coefficients[k], most), _box(explanation, facts)
            ),
            f"<b>#{k}</b> coefficient {total.coefficients[k]:+.2f}".replace("-", "−"),
            alt=f"Contribution of prototype {k}",
        )
        for k in shown
    ]  # fmt: skip
    legend = f"{_swatch(overlays.PLUS)}adds to the mask{_swatch(overlays.MINUS)}takes away from it"
    return f'<p class="muted">{legend}</p>{rows_of_shots(figures)}'


def _growth(explanation: Explanation, facts: InstanceFacts, total: PrototypeSum, shots: Shots) -> str:
    maps = explanation.prototype_maps
    assert maps is not None
    image = View.near(explanation.pixels, _box(explanation, facts), SMALL)
    count = len(total.order)
    steps = sorted({min(step, count) for step in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, count)})
    figures = []
    for step in steps:
        chosen = total.order[:step]
        above = (maps[:, :, chosen] @ total.coefficients[chosen] > 0) & total.window
        figures.append(
            shots.figure(
                f"instance_{facts.number}_first_{step:03d}", overlays.mask_over(image, above),
                f"<b>{step}</b> IoU {total.growth[step - 1]:.2f}", alt=f"Mask of the first {step} prototypes",
            )
        )  # fmt: skip
    return rows_of_shots(figures, "steps")


def _region_mask(explanation: Explanation, facts: InstanceFacts, region: RegionFacts, shots: Shots, image: View) -> str:
    prefix, box = f"instance_{facts.number}", _box(explanation, facts)
    both = overlays.with_box(overlays.boxes_over(image, region.proposal[None]), box, OUTCOME_COLORS["kept"])
    cells = f"{region.mask_probs.shape[0]} × {region.mask_probs.shape[1]}"
    figures = [
        shots.figure(
            f"{prefix}_proposal", both, f"<b>Proposal</b> {region.rank} by objectness ({region.objectness:.2f}), "
            "orange, and the box made from it, green", alt="Proposal and box",
        ),
        shots.figure(f"{prefix}_region", overlays.cut_out(explanation.pixels, box),
                     "<b>The region</b>, as a square", alt="Region of the image"),
        shots.figure(f"{prefix}_features", overlays.grid_image(region.features),
                     "<b>Its features</b>, mean over the channels", alt="Features of the region", sharp=True),
        shots.figure(f"{prefix}_probs", overlays.grid_image(region.mask_probs, most=1.0),
                     f"<b>The mask</b>, {cells} probabilities over the box", alt="Mask of the region", sharp=True),
    ]  # fmt: skip
    if region.mask_iou_input is not None:
        figures.append(
            shots.figure(f"{prefix}_mask_iou_input", overlays.grid_image(region.mask_iou_input, most=1.0),
                         "<b>What the mask IoU head sees</b> of it, beside the features", alt="Input of the mask IoU "
                         "head", sharp=True)
        )  # fmt: skip
    near = View.near(explanation.pixels, box, LARGE)
    final = overlays.mask_over(near, explanation.found[[facts.number]].masks[0])
    figures.append(
        shots.figure(
            f"{prefix}_mask", overlays.with_box(final, box), f"<b>The mask</b> that is given{_nearby(near)}", alt="Mask"
        )
    )
    return f"<h3>From a proposal to the mask</h3>{rows_of_shots(figures)}"


def _voted_mask(
    explanation: Explanation, facts: InstanceFacts, position: PositionFacts, shots: Shots, image: View
) -> str:
    prefix, box = f"instance_{facts.number}", _box(explanation, facts)
    lowest = min(float(position.outside.min()), float(position.inside.min()))
    most = max(float(position.outside.max()), float(position.inside.max())) - lowest
    both = overlays.with_box(overlays.boxes_over(image, position.proposal[None]), box, OUTCOME_COLORS["kept"])
    region = "its correction won" if position.corrected else "it won itself"
    voters = f"{position.num_votes} regions" if position.num_votes > 1 else "no other region"
    grids = [
        ("outside", position.outside - lowest, most, "<b>Outside</b>: scores of the cells to be of the object's "
         "surroundings"),
        ("inside", position.inside - lowest, most, "<b>Inside</b>: scores of the cells to be of the object"),
        ("class", np.maximum(position.outside, position.inside) - lowest, most,
         "<b>The larger of both</b>, whose mean is the score of the class"),
        ("own", position.own_mask, 1.0, "<b>Its own mask</b>, of the region's likeliest class"),
        ("votes", position.votes, 1.0, f"<b>The vote</b> of {voters}; from 0.4 on a pixel belongs to the mask"),
    ]  # fmt: skip
    figures = [
        shots.figure(
            f"{prefix}_proposal",
            both,
            f"<b>Proposal</b> {position.rank} by objectness ({position.objectness:.2f}), "
            f"orange; {region}. Green: the box of the mask",
            alt="Proposal and box",
        ),
        *(
            shots.figure(f"{prefix}_{name}", overlays.grid_image(values, most=top), words, alt=name, sharp=True)
            for name, values, top, words in grids
        ),
    ]
    near = View.near(explanation.pixels, box, LARGE)
    final = overlays.with_box(overlays.mask_over(near, explanation.found[[facts.number]].masks[0]), box)
    figures.append(shots.figure(f"{prefix}_mask", final, f"<b>The mask</b> that is given{_nearby(near)}", alt="Mask"))
    return f"<h3>From position-sensitive maps to the mask</h3>{rows_of_shots(figures)}"


def _place(facts: InstanceFacts) -> str:
    """What a candidate comes from."""
    return "anchor" if facts.region is None and facts.positions is None else "proposal"


def _competition(explanation: Explanation, facts: InstanceFacts, shots: Shots, name: str) -> str:
    rivals = facts.competitors
    near = View.near(explanation.pixels, _box(explanation, facts), LARGE)
    counts = Counter(one.outcome for one in rivals)
    legend = "".join(f"{_swatch(OUTCOME_COLORS[one])}{_WORDS[one]}: {counts[one]}" for one in _WORDS if counts[one])
    places = f"{_place(facts)}s"
    figures = [
        shots.figure(f"instance_{facts.number}_origins",
                     overlays.competitors_over(near, rivals, origins=True),
                     f"<b>The {places}</b> that competed{_nearby(near)}", alt=f"The {places} that competed"),
        shots.figure(f"instance_{facts.number}_boxes",
                     overlays.competitors_over(near, rivals, origins=False),
                     "<b>The boxes</b> made from them", alt="The boxes that competed"),
    ]  # fmt: skip
    return (
        f"<h3>Who competed</h3><p>The candidates for {escape(name)} that overlap this instance more than any other.</p>"
        f'<p class="muted">{legend}</p>{rows_of_shots(figures, "wide")}'
    )


def _rivals_table(explanation: Explanation, facts: InstanceFacts, place: str) -> str:
    rivals = facts.competitors
    rows = [_rival_row(one, place, explanation.found.class_names) for one in rivals[:_RIVALS]]
    more = f", the best {_RIVALS} of {len(rivals)}" if len(rivals) > _RIVALS else ""
    return html_table(["candidate", "class", "outcome", "score", "IoU", "by"], rows, f"Candidates{more}")


def _rival_row(one: Competitor, place: str, class_names: tuple[str, ...]) -> list[object]:
    by = "" if one.outcome != "suppressed" else "a suppressed one" if one.by is None else f"instance {one.by}"
    number = one.number + (place == "proposal")  # ranks count from 1
    name = f"{place} {number}, level {one.level}"
    return [name, class_names[one.label], _WORDS[one.outcome], one.score, one.iou, by]


def _box(explanation: Explanation, facts: InstanceFacts) -> Floats:
    box: Floats = explanation.found.boxes[facts.number]
    return box


def _nearby(view: View) -> str:
    return "" if view.is_whole else ", seen from near"


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<span class="swatch" style="background:rgb({escape(",".join(map(str, color)))})"></span>'
