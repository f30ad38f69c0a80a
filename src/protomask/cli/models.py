"""`protomask models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.models.zoo import ZooEntry

_LETTERS = "abcdefgh"
EXAMPLE = "protomask models"


def run(*, json: bool = False) -> int:
    """List every model: what it is, where its weights come from, what was published about it.

    Args:
        json: print JSON instead of a table.
    """
    from protomask.cli.output import dump_json, print_table
    from protomask.defaults import DEFAULT_MODEL
    from protomask.models.published import PUBLISHED
    from protomask.models.zoo import ZOO

    rows = []
    for name, entry in ZOO.items():
        config = entry.preset()
        if entry.packaged:
            weights = "ships with the package"
        elif entry.repository:
            weights = f"hf://{entry.repository}/{entry.filename}"
        elif entry.published:
            weights = PUBLISHED[entry.published].url
        else:
            weights = "none published: train it, or load a file of yours"
        rows.append(
            {
                "name": name,
                "task": "masks, mask quality" if entry.scores_masks else "masks",
                "backbone": config.backbone,
                "image_size": config.image_size,
                "weights": weights,
                "licence": entry.licence or None,
                "mask_ap": entry.mask_ap,
                "source": entry.source,
                "default": name == DEFAULT_MODEL,
            }
        )
    if json:
        dump_json(rows)
        return 0
    sources = list(dict.fromkeys(entry.source for entry in ZOO.values() if entry.source))
    table = []
    for row, entry in zip(rows, ZOO.values(), strict=True):
        ap = None if entry.mask_ap is None else f"{entry.mask_ap} {_LETTERS[sources.index(entry.source)]}"
        task = "masks+IoU" if entry.scores_masks else "masks"
        table.append([row["name"], task, row["image_size"], ap, row["licence"], _origin(entry)])
    print_table(("name", "task", "px", "AP", "licence", "weights"), table)
    print("masks+IoU: also says how good each mask is. px: input side (rcnn: short side).")
    print("AP: published mask AP in percent:")
    for letter, source in zip(_LETTERS, sources, strict=False):
        print(f"  {letter}  {source}")
    print("Weights are downloaded once from where they are; --json shows the address.")
    print(f"{DEFAULT_MODEL} is what predict uses when no model is named.")
    return 0


def _origin(entry: ZooEntry) -> str | None:
    if entry.published:
        return entry.source.partition(" ")[0]
    return "in the package" if entry.packaged else "Hugging Face" if entry.repository else None
