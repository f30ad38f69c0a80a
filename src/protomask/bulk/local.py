"""The local engine: processes of this machine that take shard after shard."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from protomask.errors import ProtomaskError

_MOST_DEADLY = 10
"""Images of one shard that may end a process, before it is not the images."""


@dataclass
class _Job:
    """A shard to predict.

    Attributes:
        deaths: processes that ended in it.
        deadly: errors of its images that ended one.
        at: the last image that a process spoke of.
        told: images that are known to be done.

    """

    shard: int
    deaths: int = 0
    deadly: dict[int, str] = field(default_factory=dict)
    at: int | None = None
    told: int = 0

    def done(self, images: int) -> int:
        """How many more images are done than were told before."""
        more = max(images - self.told, 0)
        self.told += more
        return more


class _Process:
    """A worker in a process of its own, which ends with this one whatever ends it."""

    def __init__(self, output: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, output, threads), daemon=True)
        self.process.start()
        other.close()
        self.job: _Job | None = None

    def give(self, job: _Job) -> None:
        self.job = job
        job.at = None
        self.connection.send((job.shard, job.deaths > 0, job.deadly))

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def run_local(output: str, shards: Sequence[int], *, workers: int, threads: int) -> Generator[int, None, None]:
    """Predict shards in processes.

    Args:
        output: folder of the run.
        shards: their numbers.
        workers: number of processes.
        threads: of each.

    Yields:
        Numbers of images that have been predicted since the last one.

    Raises:
        ProtomaskError: what a worker could not do; or processes were ended, and not by an image.

    """
    waiting = deque(_Job(shard) for shard in shards)
    processes: list[_Process] = []
    try:
        processes += [_Process(output, threads) for _ in range(min(workers, len(waiting)))]
        while waiting or any(process.job is not None for process in processes):
            for process in processes:
                if process.job is None and waiting:
                    _give(process, waiting)
            ready = wait([process.connection for process in processes if process.job is not None], timeout=1)
            for process in [one for one in processes if one.connection in ready]:
                news = _news_of(process, waiting)
                if news is None:
                    process.end()
                    processes[processes.index(process)] = _Process(output, threads)
                else:
                    yield news
    finally:
        for process in processes:
            process.end()


def _give(process: _Process, waiting: deque[_Job]) -> None:
    job = waiting.popleft()
    try:
        process.give(job)
    except OSError:  # it died while it had nothing to do; its end is seen when it is listened to
        process.job = job


def _news_of(process: _Process, waiting: deque[_Job]) -> int | None:
    """What a process says; None where it has ended, after what is to be done again was put back."""
    job = process.job
    assert job is not None
    try:
        kind, value = process.connection.recv()
    except (EOFError, OSError):
        process.process.join()
        _learn_from_death(job, process.process.exitcode)
        waiting.appendleft(job)
        return None
    if kind == "failed":
        raise value
    if kind == "finished":
        process.job = None
        return job.done(value)
    job.at = value
    return job.done(value + (job.deaths == 0))  # image by image, they are told before they are begun


def _learn_from_death(job: _Job, code: int | None) -> None:
    """A shard whose process ended is tried again image by image; the image that ends that one, too, is left out.

    Raises:
        ProtomaskError: it happens again and again.

    """
    ended_by = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    # The first time it may have been anything, such as another program that took all memory.
    if job.deaths and job.at is not None:
        job.deadly[job.at] = f"the process that predicted this image was ended by {ended_by}"
    job.deaths += 1
    if job.deaths > _MOST_DEADLY or (job.deaths > 2 and not job.deadly):
        raise ProtomaskError(
            f"{job.deaths} processes in a row were ended by {ended_by} in shard {job.shard}, perhaps for lack of "
            "memory; fewer workers need less. What is finished stays, and resume goes on"
        )


def _work(connection: Connection, output: str, threads: int) -> None:
    """The life of a worker process: take a shard, say how it goes, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives work
    try:
        from protomask.bulk.worker import ShardWorker

        worker = ShardWorker(output, threads=threads)
        while True:
            shard, one_by_one, deadly = connection.recv()
            counts = worker.write_shard(
                shard, on_image=lambda number: connection.send(("image", number)), one_by_one=one_by_one, deadly=deadly
            )
            connection.send(("finished", counts.images))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # nobody asks any more; threads that read images need not be waited for
    except Exception as error:
        connection.send(("failed", _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same where it could not be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ProtomaskError(f"{type(error).__name__}: {error}")
    return error


def available_processors() -> int:
    """Processors that this process may use."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
