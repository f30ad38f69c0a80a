"""`protomask models`."""

from __future__ import annotations

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
        columns = ("name", "backbone", "image_size", "weights", "mask_ap", "source")
        print_table(columns, [[row[column] for column in columns] for row in rows])
        print(f"{DEFAULT_MODEL} is what predict uses when no model is named.")
    return 0
