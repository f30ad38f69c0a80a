"""`protomask explain padding`."""

from __future__ import annotations

EXAMPLE = "protomask explain padding --output padding"


def run(
    *,
    model: str | None = None,
    data: str | None = None,
    split: str = "val",
    images: int = 60,
    seed: int = 0,
    output: str = "padding",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Run a model with paddings other than zeros: what its prototypes then know of their place, and what AP is left.

    Args:
        model: zoo name, weights file, run folder or hf:// address of a model with prototypes; the shipped default when
            not given.
        data: data set, a folder with annotations/SPLIT.json and images/SPLIT/, or a YAML naming these paths; synthetic
            scenes by default.
        split: part of the data set.
        images: number of images.
        seed: of the synthetic scenes.
        output: folder of the page, index.html, its images as PNG, padding.svg and padding.json.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        json: print the numbers as JSON instead of a table.
    """
    from pathlib import Path

    from protomask.cli.output import dump_json, print_table, progress
    from protomask.data.coco.layout import open_dataset
    from protomask.extras import require_torch

    require_torch("protomask explain padding")
    if data is not None:
        open_dataset(data, (split,))
    from protomask.api import load
    from protomask.explaining.models import refuse_exported

    refuse_exported(model)
    from protomask.explaining.padding import compare_paddings
    from protomask.explaining.padding_page import HEADS, table_rows, write_padding_page

    predictor = load(model, runtime="torch", device=device)
    with progress("images", None, quiet=json, lines=True) as bar:
        result = compare_paddings(
            predictor, data=data, split=split, images=images, seed=seed, on_progress=bar.update
        )  # fmt: skip
    page = write_padding_page(result, Path(output))
    if json:
        dump_json({**result.to_dict(), "page": str(page)})
        return 0
    print_table(HEADS, table_rows(result))
    print(f"page: {page}")
    return 0
