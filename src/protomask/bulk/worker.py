"""The worker of bulk prediction: the same in processes of this machine, in actors of Ray and in tasks of Spark."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from protomask.bulk.options import BulkModel
from protomask.bulk.plan import read_plan
from protomask.bulk.schema import Counts, ImageRow, counts_of, row_of, schema, with_metadata
from protomask.bulk.tables import TableImages
from protomask.detection.options import PredictOptions
from protomask.errors import DataError
from protomask.images.decode import Pixels, read_image
from protomask.images.fetch import is_url
from protomask.inference.pipeline import predict_frames
from protomask.storage import place_of, require_pyarrow
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    import pandas

Content = bytes | str
"""The bytes of an image file, or its path or address."""


class BulkWorker:
    """Reads images from anywhere and finds their instances; an image that cannot be read becomes a row with an error.

    Args:
        model: what finds the instances, loaded here.
        options: what is found.
        threads: of the network.
        image_column: column of Parquet files that has the images.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: the model cannot have these options.

    """

    def __init__(
        self,
        model: BulkModel | None = None,
        options: PredictOptions | None = None,
        *,
        threads: int | None = 1,
        image_column: str = "image",
    ) -> None:
        self.options = options or PredictOptions()
        self.predictor = (model or BulkModel()).load(threads=threads)
        self.predictor.check_options(self.options)
        self._tables = TableImages(image_column)

    def rows(self, images: Sequence[ImageRow]) -> Iterator[dict[str, Any]]:
        """The rows of images, in order; the next images are read while the network runs.

        Yields:
            One dict for each image, as `protomask.bulk.schema.schema` names it.

        """
        return self._rows(images, [partial(self._content_of, image) for image in images])

    def pandas_rows(self, frames: Iterable[pandas.DataFrame]) -> Iterator[pandas.DataFrame]:
        """What Spark's ``mapInPandas`` calls: tables of images in, tables of their rows out.

        Args:
            frames: tables with the columns ``image`` (paths, addresses, or bytes of image files) and ``id``, which may
                be left out where images are paths.

        Yields:
            A table for each, with the columns of `protomask.bulk.schema.SPARK_SCHEMA`.

        """
        import pandas as pd

        for frame in frames:
            contents: list[Content] = list(frame["image"])
            ids = list(frame["id"]) if "id" in frame else contents
            names = [content if isinstance(content, str) else "" for content in contents]
            images = [ImageRow(str(own), name) for own, name in zip(ids, names, strict=True)]
            rows = list(self._rows(images, [partial(_as_is, content) for content in contents]))
            yield pd.DataFrame(rows, columns=schema().names).astype(
                {"row": "Int64", "width": "Int32", "height": "Int32"}
            )

    def _rows(self, images: Sequence[ImageRow], contents: Sequence[Callable[[], Content]]) -> Iterator[dict[str, Any]]:
        frames = (
            Frame(partial(_read, image, content), source=image.id, index=index)
            for index, (image, content) in enumerate(zip(images, contents, strict=True))
        )
        with closing(predict_frames(self.predictor, frames, self.options)) as predicted:
            for image, frame in zip(images, predicted, strict=True):
                yield row_of(image, frame)

    def _content_of(self, image: ImageRow) -> Content:
        if image.row is not None:
            content = self._tables.read(place_of(image.image), image.row)
            return content if isinstance(content, bytes) else _whole(content)
        return _whole(image.image)


class ShardWorker(BulkWorker):
    """Predicts shards of a run and writes their files.

    Args:
        output: folder of the run, which has its plan.
        threads: of the network.

    """

    def __init__(self, output: str, *, threads: int | None = 1) -> None:
        self.plan = read_plan(output)
        plan = self.plan
        super().__init__(plan.model, plan.options, threads=threads, image_column=plan.image_column)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What ``map_batches`` of Ray Data calls: numbers of shards in, their counts out."""
        shards = [int(shard) for shard in batch["shard"]]
        counts = [self.write_shard(shard) for shard in shards]
        return {"shard": shards, **{name: [getattr(one, name) for one in counts] for name in Counts._fields}}

    def write_shard(
        self,
        shard: int,
        *,
        on_image: Callable[[int], None] | None = None,
        one_by_one: bool = False,
        deadly: Mapping[int, str] | None = None,
    ) -> Counts:
        """Predict a shard and write its file, whole or not at all.

        Args:
            shard: its number.
            on_image: called with the number of each image in the shard: when it is finished, or with ``one_by_one``
                before it is begun.
            one_by_one: read no image ahead, so that what ends this process is known to be the last one begun.
            deadly: errors of images that must not be tried, by their number.

        Raises:
            DataError: the listing cannot be read.
            ProtomaskError: the file cannot be written.

        """
        images = self.plan.images_of(shard)
        rows: list[dict[str, Any]] = []
        if one_by_one:
            for number, image in enumerate(images):
                if on_image is not None:
                    on_image(number)
                error = (deadly or {}).get(number)
                rows += [_failed_row(image, error)] if error is not None else self.rows([image])
        else:
            for number, row in enumerate(self.rows(images)):
                rows.append(row)
                if on_image is not None:
                    on_image(number)
        return self._write(shard, rows)

    def _write(self, shard: int, rows: Sequence[Mapping[str, Any]]) -> Counts:
        arrow, parquet = require_pyarrow(), require_pyarrow("parquet")
        plan, counts = self.plan, counts_of(rows)
        known = {
            "run": plan.run, "shard": shard, "counts": counts._asdict(), "model": self.predictor.source,
            "class_names": self.predictor.class_names, "options": plan.options.to_dict(),
        }  # fmt: skip
        content = io.BytesIO()
        table = with_metadata(arrow.Table.from_pylist(rows, schema=schema()), known)
        parquet.write_table(table, content, compression="zstd")
        plan.place_of(shard).write(content.getvalue())
        return counts


class _NamedBytes(io.BytesIO):
    """The bytes of an image, with the name that errors give."""

    name = ""


def _read(image: ImageRow, content: Callable[[], Content]) -> Pixels:
    """Raises: DataError, whatever is wrong with an image."""
    given = content()
    if isinstance(given, str):
        return read_image(given)
    named = _NamedBytes(given)
    named.name = image.id
    return read_image(named)


def _as_is(content: Content) -> Content:
    """Raises: DataError unless a cell of a table has an image."""
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    if not isinstance(content, str) or not content:
        raise DataError(f"image: expected a path, an address or bytes, got {type(content).__name__}")
    return _whole(content)


def _whole(address: str) -> Content:
    """What `protomask.images.decode.read_image` takes of a path or address: the bytes of what lies in a store."""
    if is_url(address):
        return address
    place = place_of(address)
    return place.path if place.is_local else place.read()


def _failed_row(image: ImageRow, error: str) -> dict[str, Any]:
    return row_of(image, Frame.failed(DataError(error), source=image.id))
