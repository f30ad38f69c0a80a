"""The engine on Ray: an actor pool of Ray Data, on this machine or on a cluster."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from typing import Any

from protomask import errors
from protomask.bulk.options import BulkOptions
from protomask.bulk.worker import ShardWorker
from protomask.errors import MissingExtraError, ProtomaskError


def run_on_ray(output: str, shards: Sequence[int], options: BulkOptions) -> Generator[int, None, None]:
    """Predict shards in actors of Ray.

    Args:
        output: folder of the run; all machines of the cluster must reach it.
        shards: their numbers.
        options: workers, threads and GPUs.

    Yields:
        The number of images of each shard that is finished.

    Raises:
        MissingExtraError: Ray is not installed.
        ProtomaskError: there is no such cluster, or what a worker could not do.

    """
    ray, data = _imported()
    begun_here = not ray.is_initialized()
    if begun_here:
        _start(ray, options.ray_address)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield from _finished(ray, data, output, shards, options)
    except Exception as error:
        raise _plain(error) from error
    finally:
        if begun_here:
            ray.shutdown()


def _finished(
    ray: Any, data: Any, output: str, shards: Sequence[int], options: BulkOptions
) -> Generator[int, None, None]:
    processors = int(ray.cluster_resources().get("CPU", 1))
    workers = options.workers or max(1, processors // options.threads)
    workers = min(workers, len(shards))
    numbers = data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    rows = numbers.map_batches(
        ShardWorker,
        batch_size=1,  # so that a shard is one task, and what dies loses no more
        compute=data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(output,),
        fn_constructor_kwargs={"threads": options.threads},
        num_cpus=min(options.threads, processors),
        num_gpus=options.gpus or None,
    )
    for row in rows.iter_rows():
        yield row["images"]


def _imported() -> tuple[Any, Any]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("the engine ray needs Ray: pip install 'protomask[ray]'") from error
    return ray, ray.data


def _start(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except ConnectionError as error:
        raise ProtomaskError(f"ray_address: there is no Ray cluster at {address}: {error}") from error


def _plain(error: Exception) -> Exception:
    """What a worker raised, instead of what Ray makes of it: a text with the traceback of the other process."""
    told = re.findall(r"^protomask\.errors\.(\w+): (.+)$", str(error), flags=re.MULTILINE)
    if not told:
        return error
    name, message = told[-1]
    kind: type[Exception] = getattr(errors, name, ProtomaskError)
    return kind(message)
