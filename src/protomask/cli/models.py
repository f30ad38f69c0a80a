"""`protomask models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.models.zoo import ZooEntry

EXAMPLE = "protomask models"


def run(*, json: bool = False) -> int:
    """List every model: what it is, where its weights come from, what was published about it.

    Args:
        json: print JSON instead of a table.
    """
    from protomask.cli.output import dump_json, print_table
    from protomask.models.zoo import DEFAULT_MODEL, ZOO

    rows = []
    for name, entry in ZOO.items():
        config = entry.preset()
        if entry.packaged:
            weights = "ships with the package"
        elif entry.repository:
            weights = f"hf://{entry.repository}/{entry.filename}"
        else:
            weights = "none published: train it, or load a file of yours"
        rows.append(
            {
                "name": name,
                "backbone": config.backbone,
                "image_size": config.image_size,
                "weights": weights,
                "mask_ap": entry.mask_ap,
                "source": entry.source,
                "default": name == DEFAULT_MODEL,
            }
        )
    if json:
        dump_json(rows)
    else:
        table = [
            [row["name"], row["image_size"], row["mask_ap"] and str(row["mask_ap"]), origin]
            for row, origin in zip(rows, map(_short_origin, ZOO.values()), strict=True)
        ]
        print_table(("name", "size", "mask AP", "weights"), table)
        for source in dict.fromkeys(entry.source for entry in ZOO.values() if entry.source):
            print(f"mask AP in percent: {source}")
        print("OWNER/NAME is a Hugging Face repository; --json tells file and backbone.")
        print(f"{DEFAULT_MODEL} is what predict uses when no model is named.")
    return 0


def _short_origin(entry: ZooEntry) -> str:
    return "in the package" if entry.packaged else entry.repository or "none published"
