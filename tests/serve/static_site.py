"""A static host, and a page on it that tests can ask."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_ASK = """async ([model, code, name]) => {
  globalThis.backend ??= await (async () => {
    const { LocalBackend } = await import("./page/local.js");
    return new LocalBackend(await (await fetch("page/site.json")).json());
  })();
  const bytes = Uint8Array.from(atob(code), (one) => one.charCodeAt(0));
  return backend.predict(new Blob([bytes]), name, model);
}"""


@contextmanager
def host(folder: Path) -> Iterator[str]:
    """Address of a folder."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *values: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def ask(page: Any, model: str, image: bytes) -> dict[str, Any]:
    """What the page finds in an image file, as the server would answer."""
    answer: dict[str, Any] = page.evaluate(_ASK, [model, base64.b64encode(image).decode(), "image"])
    return answer
