"""`protomask data shard`."""

from __future__ import annotations

EXAMPLE = "protomask data shard shapes shapes-parquet"
POSITIONAL = ("source", "output")


def run(source: str, output: str, *, shard_size: int = 1024, json: bool = False) -> int:
    """Write a COCO data set as Parquet files, which training reads in a stream.

    Args:
        source: folder with annotations/SPLIT.json and images/SPLIT/, or a YAML file naming these paths.
        output: new folder, or an address such as s3://bucket/shapes.
        shard_size: images of each file.
        json: print one JSON summary instead of text.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.errors import ConfigError
    from protomask.extras import require_torch

    if shard_size < 1:
        raise ConfigError(f"shard_size: expected at least 1, got {shard_size}")
    require_torch("protomask data shard")
    from protomask.data.shards.write import write_shards

    with progress("shard", None, quiet=json, lines=True) as bar:
        shards = write_shards(source, output, shard_size=shard_size, progress=bar.update)
    if json:
        splits = {
            name: {"images": facts.images, "annotations": facts.annotations} for name, facts in shards.splits.items()
        }
        dump_json({"output": str(shards.folder), "splits": splits})
        return 0
    for name, facts in shards.splits.items():
        files = -(-facts.images // shards.shard_size)
        print(f"{name}: {facts.images} images with {facts.annotations} annotations in {files} files")
    print(f"train on it: protomask train --data {shards.folder}")
    return 0
