"""A stream on this machine, for tests: a transport stream over TCP, sent to one client after another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType


class LocalStream:
    """Serves contents, one per connection, and closes each connection after its content and a pause.

    Args:
        contents: what each client gets.
        pause: seconds before a connection is closed.

    """

    def __init__(self, contents: Sequence[bytes], *, pause: float = 0.0) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._contents = contents
        self._pause = pause
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> LocalStream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.close()
        self._thread.join(5)

    def _serve(self) -> None:
        for content in self._contents:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                try:
                    client.sendall(content)
                except OSError:
                    continue
                self._closing.wait(self._pause)
        self._server.close()


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(holds: object, seconds: float = 10.0) -> None:
    """Wait until a function returns something true.

    Raises:
        AssertionError: it takes too long.

    """
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
