"""Servers over a model that needs no file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from starlette.testclient import TestClient

from protomask.serve.app import create_app
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool
from serve.fake_model import load

Start = Callable[..., TestClient]


def image(red: int = 5, size: tuple[int, int] = (32, 24)) -> bytes:
    """A PNG file of (W, H) with this red channel."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] = red
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server: start(key=None, **options) gives its client."""
    opened: list[TestClient] = []

    def begin(*, key: str | None = None, **options: Any) -> TestClient:
        settings, metrics = ServeOptions(**options), Metrics()
        pools = {name: ModelPool(name, name, load, settings, metrics) for name in ("one", "two")}
        client = TestClient(create_app(pools, settings, metrics=metrics, api_key=key, log=False))
        client.__enter__()
        opened.append(client)
        return client

    yield begin
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A server with the usual options, shared by the tests that only ask it something."""
    settings, metrics = ServeOptions(), Metrics()
    pools = {name: ModelPool(name, name, load, settings, metrics) for name in ("one", "two")}
    with TestClient(create_app(pools, settings, metrics=metrics, log=False)) as opened:
        yield opened


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
