"""What masks can be learned from boxes alone? The same model is trained for as many minutes on the annotated masks, on
nothing but their boxes, and on the boxes as if they were masks. All are judged on the true masks of the validation
images.

example:
  python benchmarks/boxes_alone.py --data nuclei --minutes 8 --image-size 256 --start imagenet --max-detections 400
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml

import budget
from budget import Judge, averaged, markdown, prepared_data, read_facts, train_ours
from measuring import argument_parser, note
from protomask.data.formats.records import OF_BOX, outline_of_box

ROWS: dict[str, dict[str, Any]] = {
    "masks": {},
    "boxes alone": {},
    "boxes as masks": {"mask_weights": {"box": 1.0}},
}
"""Settings of `protomask train`; the first row has the masks, the others boxes, which have weight 0 unless given."""


def without_masks(data: Path, folder: Path) -> Path:
    """The data set again; each training object has its box as its mask, which says so."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        name: yaml.safe_load(data.with_name(name).read_text(encoding="utf-8"))
        for name in ("data.yaml", "training.yaml")
    }
    annotations = json.loads(Path(contents["data.yaml"]["train_annotations"]).read_text(encoding="utf-8"))
    annotations["annotations"] = [as_box(one) for one in annotations["annotations"]]
    file = folder / "train.json"
    file.write_text(json.dumps(annotations), encoding="utf-8")
    for name, content in contents.items():
        (folder / name).write_text(yaml.safe_dump({**content, "train_annotations": str(file)}), encoding="utf-8")
    return folder / "data.yaml"


def as_box(annotation: dict[str, Any]) -> dict[str, Any]:
    """The annotation without its outline, unless it is a region to ignore."""
    if annotation.get("iscrowd"):
        return annotation
    _, _, width, height = box = annotation["bbox"]
    return {**annotation, **OF_BOX, "segmentation": [outline_of_box(*box)], "area": width * height}


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", required=True, help="data set with masks, as for train")
    parser.add_argument("--model", default="protomask_n", help="of the modern family")
    parser.add_argument("--recipe", default="modern")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="what to learn from")
    parser.add_argument("--output", type=Path, default=Path("runs/boxes_alone"), help="folder of everything")
    budget.add_budget_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = prepared_data(options.data, options.classes, options.output.resolve())
    boxes = without_masks(data, options.output.resolve() / "boxes")
    judge, table = Judge(data, options.max_detections), []
    for name in options.rows:
        rows = []
        for seed in options.seeds:
            folder = options.output / f"{name.replace(' ', '_')}_{seed}"
            source = data if name == "masks" else boxes
            settings = {"model": options.model, "recipe": options.recipe, **ROWS[name]}
            results = train_ours(source, folder, options, seed=seed, **settings)
            rows.append({**judge.judged(results), "steps": read_facts(folder)["steps"]})
            note(f"{folder}: {json.dumps(rows[-1])}")
        table.append({"learned from": name, **averaged(rows)})
    steps = options.settings.get("iterations")
    length = f"{options.minutes:g} minutes" if steps is None else f"{steps} steps"
    print(f"{length} at {options.image_size} px, start {options.start}\n\n{markdown(table)}")


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
