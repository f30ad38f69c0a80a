"""A server on a port of this machine, and clients that behave badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from protomask.serve.app import create_app
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool
from protomask.serve.run import make_config
from serve.fake_model import load


class Running:
    """A server in a thread, as `protomask serve` starts it; its model is the fake one."""

    def __init__(self, **options: Any) -> None:
        self.options = ServeOptions(**options)
        self.metrics = Metrics()
        self.pool = ModelPool("one", "one", load, self.options, self.metrics)
        app = create_app({"one": self.pool}, self.options, metrics=self.metrics, log=False)
        self.server = uvicorn.Server(make_config(app, self.options, host="127.0.0.1", port=0))
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self.server.server_state.connections)

    @property
    def requests(self) -> int:
        """Being answered."""
        return len(self.server.server_state.tasks)

    def counted(self, name: str) -> float:
        """Sum of a metric."""
        lines = self.metrics.text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def end(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)


@contextmanager
def running(**options: Any) -> Iterator[Running]:
    """A server for a while."""
    server = Running(**options)
    try:
        yield server
    finally:
        server.end()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def head(length: int | None, kind: str = "image/png", path: str = "/v1/predict", more: str = "") -> bytes:
    """The head of a POST; chunked without a length."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n{size}\r\n{more}\r\n".encode()


def read_answer(client: socket.socket) -> tuple[int, Any]:
    """Status and JSON of an answer; status 0 where the connection ended before."""
    content = b""
    try:
        while b"\r\n\r\n" not in content:
            part = client.recv(65536)
            if not part:
                return 0, None
            content += part
        top, _, body = content.partition(b"\r\n\r\n")
        lines = top.decode().lower().split("\r\n")
        length = next(int(line.split(": ")[1]) for line in lines if line.startswith("content-length"))
        while len(body) < length:
            part = client.recv(65536)
            if not part:
                return 0, None
            body += part
    except ConnectionError:
        return 0, None
    return int(lines[0].split()[1]), json.loads(body) if body[:1] == b"{" else body


def ask(port: int, content: bytes, kind: str = "image/png", path: str = "/v1/predict") -> tuple[int, Any]:
    """One request on a connection of its own."""
    with connect(port) as client:
        client.sendall(head(len(content), kind, path) + content)
        return read_answer(client)


def is_closed(client: socket.socket, seconds: float) -> bool:
    """Whether the other side closes the connection within this time."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def files_open() -> int:
    """File descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
