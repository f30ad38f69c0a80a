"""The plan of a bulk run, written before it begins: which images there are, and which file each belongs to."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from protomask.bulk.listing import image_rows
from protomask.bulk.options import BulkModel, BulkOptions
from protomask.bulk.schema import SCHEMA_VERSION, Counts, ImageRow, read_metadata
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.images.fetch import is_url
from protomask.settings import shown
from protomask.storage import Place, place_of, require_pyarrow

PLAN_NAME, LISTING_NAME, SHARD_FOLDER = "plan.json", "listing.parquet", "shards"
_FORMAT = "protomask bulk plan"
_THREADS = 16
"""That look at finished files; a store takes many requests at a time."""


class Finished(NamedTuple):
    """A file that an earlier run has finished."""

    shard: int
    counts: Counts


@dataclass(frozen=True)
class Plan:
    """What a run does, and in which parts.

    Args:
        output: folder of the run.
        run: name of this run, which its files bear.
        images: number of images.
        shard_size: images of each shard but the last.
        model: finds the instances.
        options: options of the predictions.
        image_column: of Parquet files, see `BulkOptions`.
        made_from: what the run was asked for; one that goes on with it must ask for the same.

    """

    output: Place
    run: str
    images: int
    shard_size: int
    model: BulkModel
    options: PredictOptions
    image_column: str
    made_from: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.shard_size)

    def size_of(self, shard: int) -> int:
        """Images of a shard."""
        return min(self.shard_size, self.images - shard * self.shard_size)

    def place_of(self, shard: int) -> Place:
        """The file of a shard."""
        return self.output.child(SHARD_FOLDER).child(f"{shard:06d}.parquet")

    def images_of(self, shard: int) -> list[ImageRow]:
        """The images of a shard, in order.

        Raises:
            DataError: the listing cannot be read.

        """
        parquet = require_pyarrow("parquet")
        place = self.output.child(LISTING_NAME)
        with place.open() as file:
            try:
                columns = parquet.ParquetFile(file).read_row_group(shard).to_pydict()
            except Exception as error:
                raise DataError(f"{place}: the images of shard {shard} cannot be read: {error}") from error
        return [ImageRow(*row) for row in zip(columns["id"], columns["image"], columns["row"], strict=True)]

    def finished(self) -> list[Finished]:
        """The files of this run that are there and whole."""
        files, _ = self.output.child(SHARD_FOLDER).entries()
        shards = [int(stem) for name in files if (stem := name.removesuffix(".parquet")).isdecimal()]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [found for found in pool.map(self._look_at, sorted(shards)) if found is not None]

    def _look_at(self, shard: int) -> Finished | None:
        if shard >= self.shards:
            return None
        try:
            with self.place_of(shard).open() as file:
                metadata = require_pyarrow("parquet").read_metadata(file)
        except (OSError, ValueError):  # a store may show a part of a file
            return None
        known = read_metadata(metadata.metadata)
        if known is None or known["run"] != self.run or metadata.num_rows != self.size_of(shard):
            return None
        return Finished(shard, Counts(**known["counts"]))


def make_plan(inputs: Sequence[str], model: BulkModel, options: PredictOptions, bulk: BulkOptions) -> Plan:
    """List the images and write the plan; a run that dies before its first file has not begun.

    Raises:
        DataError: an input cannot be read, or stands for no image.
        ConfigError: the output has files of another run.
        ProtomaskError: the output cannot be written.

    """
    output = place_of(bulk.output)
    if _has_files(output):
        raise ConfigError(f"output: expected a new folder, or resume to go on, got {output}, which has a {PLAN_NAME}")
    output.make_folder()
    images = _write_listing(output.child(LISTING_NAME), image_rows(inputs, bulk), bulk.shard_size)
    plan = Plan(
        output, secrets.token_hex(8), images, bulk.shard_size, model.located(), options, bulk.image_column,
        _made_from(inputs, model, options, bulk),
    )  # fmt: skip
    output.child(SHARD_FOLDER).make_folder()
    content = {
        "format": _FORMAT, "version": SCHEMA_VERSION, "run": plan.run, "images": images, "shards": plan.shards,
        "shard_size": plan.shard_size, "model": plan.model.to_dict(), "options": options.to_dict(),
        "image_column": plan.image_column, "made_from": plan.made_from,
    }  # fmt: skip
    output.child(PLAN_NAME).write((json.dumps(content, indent=2) + "\n").encode())
    return plan


def _has_files(output: Place) -> bool:
    """Whether a run has finished a file; one that has not, such as a run without its model, leaves nothing to keep."""
    return output.child(PLAN_NAME).kind() != "nothing" and bool(output.child(SHARD_FOLDER).entries()[0])


def read_plan(output: str) -> Plan:
    """The plan in the output folder of a run.

    Raises:
        ConfigError: there is none, or one of another version.

    """
    place = place_of(output)
    file = place.child(PLAN_NAME)
    try:
        content = json.loads(file.read())
    except (DataError, ValueError) as error:
        raise ConfigError(f"output: expected the folder of a bulk run, got {place}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("version") != SCHEMA_VERSION:
        raise ConfigError(f"output: expected a plan of version {SCHEMA_VERSION} in {file}")
    return Plan(
        place, content["run"], content["images"], content["shard_size"], BulkModel.from_dict(content["model"]),
        PredictOptions.from_dict(content["options"]), content["image_column"], content["made_from"],
    )  # fmt: skip


def resume_plan(inputs: Sequence[str], model: BulkModel, options: PredictOptions, bulk: BulkOptions) -> Plan:
    """The plan of an interrupted run, which was asked for the same; a new one where none has begun.

    Raises:
        ConfigError: the plan cannot be read, or the settings differ; the message names which.
        DataError: there is no plan, and an input cannot be read, or stands for no image.
        ProtomaskError: there is no plan, and none can be written.

    """
    if not _has_files(place_of(bulk.output)):
        return make_plan(inputs, model, options, bulk)
    plan = read_plan(bulk.output)
    for name, wanted in _made_from(inputs, model, options, bulk).items():
        known = plan.made_from.get(name)
        if wanted != known:
            before = f"{shown(known)}, as when the run in {plan.output} began"
            raise ConfigError(f"{name}: expected {before}, got {shown(wanted)}")
    return plan


def _made_from(inputs: Sequence[str], model: BulkModel, options: PredictOptions, bulk: BulkOptions) -> dict[str, Any]:
    """Everything that changes which rows there are and what they hold, as plain JSON."""
    made: dict[str, Any] = {
        "inputs": [given if is_url(given) else str(place_of(given)) for given in inputs],
        **model.located().fingerprint(),
        **options.to_dict(),
        **{name: getattr(bulk, name) for name in ("recursive", "image_column", "id_column", "image_root")},
        "shard_size": bulk.shard_size,
    }
    plain: dict[str, Any] = json.loads(json.dumps(made))
    return plain


def _write_listing(place: Place, rows: Iterable[ImageRow], shard_size: int) -> int:
    """Write the images, a group of rows for each shard; returns how many there are."""
    arrow, parquet = require_pyarrow(), require_pyarrow("parquet")
    schema = arrow.schema([("id", arrow.string()), ("image", arrow.string()), ("row", arrow.int64())])
    images = 0
    with place.writing() as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(rows, shard_size):
            columns = [list(column) for column in zip(*group, strict=True)]
            columns[:2] = [[_escaped(text) for text in column] for column in columns[:2]]
            writer.write_table(arrow.table(columns, schema=schema), row_group_size=shard_size)
            images += len(group)
    return images


def _groups(rows: Iterable[ImageRow], size: int) -> Iterator[list[ImageRow]]:
    items = iter(rows)
    while group := list(islice(items, size)):
        yield group


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
