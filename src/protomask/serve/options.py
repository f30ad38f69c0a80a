"""`ServeOptions`: limits and manners of the server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from protomask.settings import AtLeast, AtMost, Count, NonNegative, Positive, Settings

API_KEY_VARIABLE = "PROTOMASK_API_KEY"
"""Environment variable with the key that requests must bring; none is asked for where it is empty."""
LABEL_STUDIO_URL_VARIABLE = "LABEL_STUDIO_URL"
"""Environment variable with the address of the Label Studio that images are fetched from."""
LABEL_STUDIO_KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
"""Environment variable with the key that Label Studio asks for."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Settings):
    """How a server behaves.

    Attributes:
        workers: number of processes that run each model.
        threads: threads of the runtime in each process; by default the cores divided by the number of processes.
        max_batch: maximum number of images that go through the network together.
        max_wait: seconds that a batch waits for more images when it is not full. This pays off if the network is faster
            with several images, as on a GPU.
        max_waiting: maximum number of images waiting for each model; more are refused with status 429.
        max_images: maximum number of images in one request.
        max_body: maximum size of a request in megabytes.
        max_pixels: maximum size of an image in megapixels.
        timeout: seconds from the arrival of a request to its answer; after that it gets status 503.
        head_timeout: seconds within which the head of a request must arrive.
        body_timeout: seconds within which the body of a request must arrive, and within which a client must read the
            next part of its answer.
        fetch: allow addresses of images in requests; those of private networks are always refused.
        label_studio: also answer as a machine learning backend of Label Studio.
        cors_origins: origins whose pages may use the server from a browser.

    """

    workers: Count = 1
    threads: Count | None = None
    max_batch: Count = 4
    max_wait: NonNegative = 0.0
    max_waiting: Count = 64
    max_images: Count = 16
    max_body: Positive = 32.0
    max_pixels: Positive = 50.0
    timeout: Positive = 30.0
    head_timeout: Positive = 10.0
    body_timeout: Positive = 30.0
    fetch: bool = False
    label_studio: bool = False
    cors_origins: tuple[str, ...] = ()

    def threads_of_worker(self) -> int:
        """Threads of the runtime in each worker process."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or max(1, cores // self.workers)


Port = Annotated[int, AtLeast(0), AtMost(65535)]
"""0 takes a free one."""
