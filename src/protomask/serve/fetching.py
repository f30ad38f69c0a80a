"""Images by address: fetched before they wait for a worker, so that a slow host holds up nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from protomask.errors import DataError
from protomask.images.fetch import fetch_url
from protomask.serve.jobs import Answer, Task
from protomask.serve.options import ServeOptions
from protomask.serve.problems import ProblemError

_THREADS = 16
_SHARE = 0.5
"""Share of a request's time that fetching may take; the rest is for the prediction."""


class Fetcher:
    """Fetches the images of tasks that have an address.

    Args:
        options: of the server: time, size, and how many images may wait.

    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._running = 0

    async def fetch(self, tasks: Sequence[Task]) -> list[Task | Answer]:
        """The same tasks with the bytes of their images; an answer with an error where there are none.

        Raises:
            ProblemError: 429 where too many are being fetched.

        """
        count = sum(isinstance(task.image, str) for task in tasks)
        if count and self._running + count > self._options.max_waiting:
            raise ProblemError(429, f"{self._running} images are being fetched", headers={"Retry-After": "2"})
        deadline = time.monotonic() + _SHARE * self._options.timeout
        return list(await asyncio.gather(*(self._fetch(task, deadline) for task in tasks)))

    async def _fetch(self, task: Task, deadline: float) -> Task | Answer:
        if not isinstance(task.image, str):
            return task
        self._running += 1
        fetching = asyncio.get_running_loop().run_in_executor(self._threads, self._get, task, deadline)
        fetching.add_done_callback(self._ended)  # a client that goes does not end the thread
        return await asyncio.shield(fetching)

    def _ended(self, fetching: asyncio.Future[Task | Answer]) -> None:
        self._running -= 1
        if not fetching.cancelled():
            fetching.exception()

    def _get(self, task: Task, deadline: float) -> Task | Answer:
        assert isinstance(task.image, str)
        limit = round(self._options.max_body * (1 << 20))
        try:
            content = fetch_url(
                task.image, max_bytes=limit, max_seconds=deadline - time.monotonic(), trusted=task.trusted
            )
        except DataError as error:
            return Answer(error=str(error), status=422)
        return replace(task, image=content)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
