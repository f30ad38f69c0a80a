"""The page of an explanation: one HTML file that holds its images, and the images as PNG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from protomask.charts.bars import Bar, stacked_bars
from protomask.charts.scales import Axis
from protomask.errors import ProtomaskError
from protomask.explaining import overlays
from protomask.explaining.instance_section import instance_section
from protomask.explaining.overlays import LARGE, SMALL, View
from protomask.explaining.results import Explanation, PrototypeFacts
from protomask.explaining.shots import Shots, rows_of_shots
from protomask.files import check_writable, replacing
from protomask.images.draw import draw_objects
from protomask.masks.runs import mask_runs
from protomask.reports.markup import columns, document, tiles

KINDS = {
    "position": "a side or corner of the image, whatever it shows",
    "outline": "edges of objects",
    "foreground": "the inside of objects",
    "background": "everything but objects",
    "mixed": "a mixture: no correlation reaches 0.3",
    "nothing": "flat in this image",
}
_PROPOSALS = 100


def write_page(explanation: Explanation, folder: Path) -> Explanation:
    """Write ``index.html`` and its images into a folder.

    Returns:
        The explanation with its ``page``.

    Raises:
        ProtomaskError: a file cannot be written.

    """
    page = folder / "index.html"
    check_writable(page, "output")
    shots = Shots(folder)
    content = render_page(explanation, shots)
    shots.save()
    with replacing(page, error=ProtomaskError) as file:
        file.write(content.encode())
    return replace(explanation, page=page)


def render_page(explanation: Explanation, shots: Shots) -> str:
    """The whole document."""
    sections = {"found": ("What was found", _found(explanation, shots))}
    if explanation.prototypes:
        sections["prototypes"] = ("Prototypes", _prototypes(explanation, shots))
    if explanation.proposals is not None:
        sections["proposals"] = ("Proposals", _proposals(explanation, shots))
    for facts in explanation.instances:
        name = explanation.found.names[facts.number]
        title = f"Instance {facts.number}: {name}"
        sections[f"instance-{facts.number}"] = (title, instance_section(explanation, facts, shots))
    height, width = explanation.found.image_size
    lead = f'<p class="muted">What {escape(explanation.model)} saw in {width} × {height} pixels, and why.</p>'
    style = files("protomask.explaining").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{explanation.name}: why these masks"
    return document(title, title, lead, sections, more_style=style)


def _found(explanation: Explanation, shots: Shots) -> str:
    found = explanation.found
    values = [("instances", str(len(found))), ("explained below", str(len(explanation.instances)))]
    if explanation.truth is not None:
        values.append(("annotated objects", str(len(explanation.truth))))
    if explanation.prototype_maps is not None:
        height, width, count = explanation.prototype_maps.shape
        values.append(("prototypes", f"{count} of {width} × {height}"))
    figures = [
        shots.figure("image", View.whole(explanation.pixels, LARGE), "<b>The image</b>", alt="The image"),
        shots.figure("found", _numbered(explanation), "<b>Found</b>, with the numbers of the best", alt="Found"),
    ]
    if explanation.truth is not None:
        drawn = draw_objects(
            explanation.pixels, boxes=np.zeros((len(explanation.truth), 4), dtype=np.float32), draw_boxes=False,
            masks=[mask_runs(mask) for mask in explanation.truth],
        )  # fmt: skip
        figures.append(shots.figure("truth", View.whole(drawn, LARGE), "<b>Annotated</b>", alt="Annotated objects"))
    nothing = (
        "" if len(found) else "<p>Nothing scores above the threshold: a lower one shows what nearly was found.</p>"
    )
    return f"{tiles(values)}{nothing}{rows_of_shots(figures, 'wide')}"


def _numbered(explanation: Explanation) -> View:
    found = explanation.found
    numbers = {facts.number for facts in explanation.instances}
    names = [f"{place} {name}" if place in numbers else "" for place, name in enumerate(found.names)]
    explained = [place for place in range(len(found)) if place in numbers]
    drawn = draw_objects(
        explanation.pixels, boxes=found.boxes, masks=found.runs(), draw_boxes=False, color_ids=range(len(found))
    )
    own = found[explained]
    drawn = draw_objects(
        drawn, boxes=own.boxes, names=[names[place] for place in explained], color_ids=explained, draw_boxes=True
    )
    return View.whole(drawn, LARGE)


def _prototypes(explanation: Explanation, shots: Shots) -> str:
    maps = explanation.prototype_maps
    assert maps is not None
    image = View.whole(explanation.pixels, SMALL)
    figures = [
        shots.figure(
            f"prototype_{one.number:03d}", overlays.heat(image, maps[:, :, one.number]), _caption(one),
            alt=f"Prototype {one.number}: {one.kind}",
        )
        for one in explanation.prototypes
    ]  # fmt: skip
    whose = "annotated" if explanation.truth is not None else "found"
    meanings = "; ".join(f"<b>{kind}</b>: {words}" for kind, words in KINDS.items())
    return (
        "<p>Each prototype is one map of the whole image, brightest where it is largest. They are sorted by use: the "
        "share of all that is added to, or taken away from, the masks within their boxes.</p>"
        f"<p>Names are measured in this image: correlations with the place in the image (p), and with the outlines (o) "
        f"and the inside (f) of the {whose} objects. {meanings}.</p>"
        f"{_use_chart(explanation.prototypes)}{rows_of_shots(figures)}"
    )


def _caption(one: PrototypeFacts) -> str:
    measures = [("p", one.position), ("o", one.outline), ("f", one.foreground)]
    words = ", ".join(f"{letter} {value:.2f}" for letter, value in measures if value is not None).replace("-", "−")
    use = f"{one.use:.0%}" if one.use >= 0.005 or not one.use else "&lt;1%"
    return f"<b>#{one.number} {one.kind}</b><br>{use} of use; {words}"


def _use_chart(prototypes: Sequence[PrototypeFacts]) -> str:
    kinds = [kind for kind in KINDS if any(one.kind == kind for one in prototypes)]
    bars = []
    for kind in kinds:
        own = [one for one in prototypes if one.kind == kind]
        bars.append(Bar(name=kind, parts=[100 * sum(one.use for one in own)], words=f"{len(own)} prototypes"))
    chart = stacked_bars(
        bars, ["share of use"], title="What the masks are made of", x=Axis(label="percent of use"), width=440
    )
    return columns([chart])


def _proposals(explanation: Explanation, shots: Shots) -> str:
    proposals = explanation.proposals
    assert proposals is not None
    image = View.whole(explanation.pixels, LARGE)
    counts = [count for count in (10, _PROPOSALS) if count <= len(proposals)] or [len(proposals)]
    figures = [
        shots.figure(f"proposals_{count:03d}", overlays.boxes_over(image, proposals[:count]),
                     f"<b>The best {count}</b> of {len(proposals)}", alt=f"The best {count} proposals")
        for count in counts
    ]  # fmt: skip
    return (
        "<p>The first stage proposes regions, whatever their class; the second looks into each of them.</p>"
        f"{rows_of_shots(figures, 'wide')}"
    )
