"""`ModelPool`: the queue of one model and the worker processes that empty it."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Protocol

from protomask.errors import ProtomaskError
from protomask.serve.jobs import Answer, Job
from protomask.serve.options import ServeOptions
from protomask.serve.worker import Broken, Load, Ready, serve_model

_PIPES = 2  # of each worker: while one batch is in the network, the next is decoded
_START_SECONDS = 300.0
_LOOK_EVERY = 0.5  # seconds between two looks whether an idle worker still lives
_ATTEMPTS = 2  # a task on which two workers died is not tried a third time
_CLOSED = Answer(error="the server is shutting down", status=503)
_BACK_OFF = (0.0, 0.5, 2.0, 5.0)  # seconds before the next start of a worker that died


class Observer(Protocol):
    """Counts what happens in a pool."""

    def batch(self, model: str, size: int) -> None:
        """So many images went to a worker."""

    def restart(self, model: str) -> None:
        """A worker died and is started again."""


class OverloadedError(ProtomaskError):
    """The queue is full; ``retry_after`` is a guess in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Worker:
    """One process and its pipes."""

    def __init__(self, load: Load, source: str | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(_PIPES)]
        self.pipes: list[Connection] = [own for own, _ in pairs]
        others = [other for _, other in pairs]
        self.process = context.Process(target=serve_model, args=(load, source, threads, others), daemon=True)
        self.process.start()
        for other in others:
            other.close()
        self.ready: Ready | None = None
        self.feeders: list[threading.Thread] = []

    def wait(self) -> Ready:
        """Wait for the model.

        Raises:
            ProtomaskError: it cannot be loaded, or the process died.

        """
        try:
            if not self.pipes[0].poll(_START_SECONDS):
                raise ProtomaskError(f"a worker did not start within {_START_SECONDS:g} s")
            said = self.pipes[0].recv()
        except (EOFError, OSError) as error:
            raise ProtomaskError("a worker died while it loaded its model") from error
        if isinstance(said, Broken):
            raise ProtomaskError(said.error)
        assert isinstance(said, Ready)
        self.ready = said
        return said

    def end(self) -> None:
        """Let it finish its batches, and end it."""
        for feeder in self.feeders:
            feeder.join()
        for pipe in self.pipes:
            pipe.close()
        self.process.join(5)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(5)


class ModelPool:
    """Images wait in one queue for the next free worker of a model. Thread-safe.

    Args:
        name: of the model in requests.
        source: what ``load`` takes; None for its default.
        load: `protomask.load`.
        options: of the server.
        observer: counts what happens.

    Raises:
        ProtomaskError: the model cannot be loaded.

    """

    def __init__(
        self, name: str, source: str | None, load: Load, options: ServeOptions, observer: Observer | None = None
    ) -> None:
        self.name = name
        self.source = source
        self._load = load
        self._options = options
        self._observer = observer
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._workers: list[_Worker] = []
        self._running = 0  # images that workers have
        self._seconds = 0.0  # of a pipe for one image, smoothed
        self._closing = False
        self.about = self._start_all()

    def _start_all(self) -> Ready:
        workers = [self._new_worker() for _ in range(self._options.workers)]
        try:
            abouts = [worker.wait() for worker in workers]
        except ProtomaskError:
            for worker in workers:
                worker.kill()
            raise
        with self._changed:
            former, self._workers = self._workers, workers
            self.about = abouts[0]
            for worker in workers:
                self._serve(worker)
            self._changed.notify_all()
        for worker in former:
            threading.Thread(target=worker.end, daemon=True).start()
        return abouts[0]

    def _new_worker(self) -> _Worker:
        return _Worker(self._load, self.source, self._options.threads_of_worker())

    def reload(self) -> Ready:
        """Load the model again from its source and let new workers take over; nothing that waits is lost.

        Raises:
            ProtomaskError: the model cannot be loaded; the present workers go on.

        """
        return self._start_all()

    @property
    def ready_workers(self) -> int:
        """Number of workers that can take a batch."""
        with self._changed:
            return sum(worker.ready is not None and worker.process.is_alive() for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return len(self._queue)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put the images of one request into the queue, all or none.

        Raises:
            OverloadedError: they do not fit.

        """
        with self._changed:
            if self._closing:
                for job in jobs:
                    _answer(job, _CLOSED)
                return
            self._drop_unwanted()
            if len(self._queue) + len(jobs) > self._options.max_waiting:
                seconds = (len(self._queue) + self._running) * self._seconds / (self._options.workers * _PIPES)
                raise OverloadedError(
                    f"{self.name}: {len(self._queue)} images wait, of at most {self._options.max_waiting}",
                    min(max(seconds, 1.0), 60.0),
                )
            self._queue.extend(jobs)
            self._changed.notify_all()

    def close(self) -> None:
        """End the workers; what still waits is answered with status 503."""
        with self._changed:
            self._closing = True
            workers, self._workers = self._workers, []
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for job in left:
            _answer(job, _CLOSED)
        for worker in workers:
            worker.end()

    def _drop_unwanted(self) -> None:
        if any(not job.is_wanted() for job in self._queue):
            self._queue = deque(job for job in self._queue if job.is_wanted())

    def _serve(self, worker: _Worker) -> None:
        """Start the threads of a worker; under the lock, because who ends a worker waits for them."""
        worker.feeders = [
            threading.Thread(target=self._feed, args=(worker, pipe), daemon=True) for pipe in worker.pipes
        ]
        for feeder in worker.feeders:
            feeder.start()

    def _feed(self, worker: _Worker, pipe: Connection) -> None:
        """Give batches to one pipe of a worker until the worker is replaced or dies."""
        batch: list[Job] = []
        try:
            while batch := self._next_batch(worker):
                if self._observer is not None:
                    self._observer.batch(self.name, len(batch))
                started = time.monotonic()
                pipe.send([job.task for job in batch])
                if not pipe.poll(max(1.0, max(job.deadline for job in batch) - started + 1.0)):
                    raise EOFError("hangs")
                for job, answer in zip(batch, pipe.recv(), strict=True):
                    _answer(job, answer)
                self._done(len(batch), time.monotonic() - started)
                batch = []
        except (EOFError, OSError) as error:
            self._failed(worker, batch, str(error) or "died")

    def _next_batch(self, worker: _Worker) -> list[Job]:
        """Images with equal options for a worker; none where it is not to go on.

        Raises:
            EOFError: the worker is dead.

        """
        options = self._options
        with self._changed:
            while not self._closing and worker in self._workers:
                if not worker.process.is_alive():
                    raise EOFError
                self._drop_unwanted()
                if self._queue and options.max_wait and len(self._queue) < options.max_batch:
                    self._changed.wait_for(lambda: len(self._queue) >= options.max_batch, options.max_wait)
                if self._queue:
                    return self._take()
                self._changed.wait(_LOOK_EVERY)
            return []

    def _take(self) -> list[Job]:
        settled = self._queue[0].task.options
        batch: list[Job] = []
        while self._queue and len(batch) < self._options.max_batch and self._queue[0].task.options == settled:
            batch.append(self._queue.popleft())
        self._running += len(batch)
        return batch

    def _done(self, count: int, seconds: float) -> None:
        with self._changed:
            self._running -= count
            self._seconds += 0.1 * (seconds / count - self._seconds) if self._seconds else seconds / count

    def _failed(self, worker: _Worker, batch: list[Job], why: str) -> None:
        """A worker died: what it had goes to the front of the queue once, and another one is started."""
        with self._changed:
            self._running -= len(batch)
            for job in reversed(batch):
                job.attempts += 1
                if job.attempts < _ATTEMPTS and not self._closing:
                    self._queue.appendleft(job)
                else:
                    _answer(job, Answer(error="a worker died on this request", status=503))
            is_first = worker in self._workers
            if is_first:
                self._workers.remove(worker)
            self._changed.notify_all()
        worker.kill()
        if is_first and not self._closing:
            print(f"serve: a worker of {self.name} {why}; it is replaced", file=sys.stderr, flush=True)
            threading.Thread(target=self._replace, daemon=True).start()

    def _replace(self) -> None:
        if self._observer is not None:
            self._observer.restart(self.name)
        attempt = 0
        while not self._closing:
            time.sleep(_BACK_OFF[min(attempt, len(_BACK_OFF) - 1)])
            attempt += 1
            worker = self._new_worker()
            try:
                worker.wait()
            except ProtomaskError as error:
                print(f"serve: {self.name}: {error}", file=sys.stderr)
                worker.kill()
                continue
            with self._changed:
                if self._closing or len(self._workers) >= self._options.workers:
                    break
                self._workers.append(worker)
                self._serve(worker)
            return
        worker.kill()


def _answer(job: Job, answer: Answer) -> None:
    """Fulfil the future of a job, unless its client has gone."""
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_result(answer)
