"""`Service`: the models of a server, and how the images of a request get their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from protomask.serve.fetching import Fetcher
from protomask.serve.jobs import Answer, Job, Task
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool, OverloadedError
from protomask.serve.problems import ProblemError


class Service:
    """The models of a server, and what is done with them.

    Args:
        pools: one per model by name; the first is the default.
        options: of the server.
        metrics: where everything is counted.

    """

    def __init__(self, pools: Mapping[str, ModelPool], options: ServeOptions, metrics: Metrics) -> None:
        self.pools = dict(pools)
        self.options = options
        self.metrics = metrics
        self._fetcher = Fetcher(options)

    def close(self) -> None:
        """Fetch nothing more, end the workers."""
        self._fetcher.close()
        for pool in self.pools.values():
            pool.close()

    def pool(self, name: str | None) -> ModelPool:
        """The model of a request.

        Raises:
            ProblemError: 404, no such model.

        """
        if name is None:
            return next(iter(self.pools.values()))
        if name not in self.pools:
            raise ProblemError(404, f"no such model: {name!r}; there are: {', '.join(self.pools)}", field="model")
        return self.pools[name]

    def check_room(self) -> None:
        """See that some model can take an image; it saves reading a body that would be refused.

        Raises:
            ProblemError: 429, all queues are full.

        """
        if all(pool.waiting >= self.options.max_waiting for pool in self.pools.values()):
            raise ProblemError(429, f"{self.options.max_waiting} images wait", headers={"Retry-After": "1"})

    async def predict(
        self, pool: ModelPool, tasks: list[Task], is_gone: Callable[[], Awaitable[None]] | None = None
    ) -> list[Answer]:
        """Answers to all images of a request.

        Args:
            pool: the model.
            tasks: the images.
            is_gone: returns when the client has gone; then nothing more is computed for it.

        Raises:
            ProblemError: 429 where the queue is full, 503 where it takes too long, 400 where nobody waits any more.

        """
        answers = asyncio.ensure_future(self._answer(pool, tasks))
        gone = asyncio.ensure_future(is_gone()) if is_gone is not None else None
        try:
            waited: list[asyncio.Future[Any]] = [answers] if gone is None else [answers, gone]
            await asyncio.wait(waited, timeout=self.options.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return answers.result()
            if gone is not None and gone.done():
                self.metrics.abandoned()
                raise ProblemError(400, "the client has gone")  # which nobody reads
            raise ProblemError(503, f"no answer within {self.options.timeout:g} s", headers={"Retry-After": "5"})
        finally:
            answers.cancel()
            if gone is not None:
                gone.cancel()

    async def _answer(self, pool: ModelPool, tasks: list[Task]) -> list[Answer]:
        """Fetch what has to be fetched, and wait for the workers; what is cancelled is not computed."""
        deadline = time.monotonic() + self.options.timeout
        fetched = await self._fetcher.fetch(tasks)
        jobs = {index: Job(task=one, deadline=deadline) for index, one in enumerate(fetched) if isinstance(one, Task)}
        try:
            pool.submit(list(jobs.values()))
            answers = await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs.values()))
        except OverloadedError as error:
            retry = {"Retry-After": str(round(error.retry_after + 0.5))}
            raise ProblemError(429, str(error), headers=retry) from error
        finally:
            for job in jobs.values():
                job.future.cancel()
        computed = dict(zip(jobs, answers, strict=True))
        return [one if isinstance(one, Answer) else computed[index] for index, one in enumerate(fetched)]


async def gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
