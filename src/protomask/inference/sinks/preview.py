"""`PreviewSink`: a page on this machine that shows the newest frame while it is worked on."""

from __future__ import annotations

import io
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

from PIL import Image

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.sinks.drawing import FrameDrawing, draw_found
from protomask.inference.sinks.sink import Sink
from protomask.structures.frame import Frame

HOST = "127.0.0.1"
_LONGEST_SIDE = 1280
_QUALITY = 80
_BOUNDARY = "frame"
_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>protomask</title>
<meta name="viewport" content="width=device-width">
<style>body{margin:0;background:#111;color:#ddd;font:15px system-ui,sans-serif;text-align:center}
img{max-width:100%;max-height:calc(100vh - 2.5em);display:block;margin:auto}p{margin:.5em}</style>
<img src="/stream.mjpg" alt="the newest frame with what was found in it"><p id="status">waiting for a frame</p>
<script>
async function tell() {
  const line = document.getElementById("status");
  try { line.textContent = (await (await fetch("/status.json")).json()).text; }
  catch { line.textContent = "the run has ended"; return; }
  setTimeout(tell, 1000);
}
tell();
</script></html>
"""


class PreviewSink(Sink):
    """Shows the newest frame at ``url``, to browsers on this machine only; nobody who looks slows the work down.

    Args:
        draw: what is drawn.
        port: port of the page; any free one if 0.

    Raises:
        ConfigError: the port is taken.

    """

    def __init__(self, draw: FrameDrawing = draw_found, *, port: int = 0) -> None:
        self._draw = draw
        self._shown = _Shown()
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"show_port: expected a port that is free, got {port}: {error}") from error
        self._server.shown = self._shown
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`; nothing is drawn while nobody looks."""
        self._shown.count(frame)
        if self._shown.watchers:
            self._shown.put(_as_jpeg(self._draw(frame)))
        return []

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        self._shown.end()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Shown:
    """The newest frame as a JPEG, and who waits for it."""

    def __init__(self) -> None:
        self.watchers = 0
        self._change = threading.Condition()
        self._jpeg: bytes | None = None
        self._number = 0
        self._ended = False
        self._text = "waiting for a frame"
        self._began = monotonic()
        self._frames = 0

    def count(self, frame: Frame) -> None:
        self._frames += 1
        passed = max(monotonic() - self._began, 1e-3)
        found = 0 if frame.found is None else len(frame.found)
        delay = "" if frame.captured is None else f", {1000 * (monotonic() - frame.captured):.0f} ms after its capture"
        time = "" if frame.time is None else f" at {frame.time:.2f} s"
        self._text = f"{frame.source}{time}: {found} found, {self._frames / passed:.1f} frames/s{delay}"

    def status(self) -> bytes:
        return json.dumps({"text": self._text, "frames": self._frames}).encode()

    def put(self, jpeg: bytes) -> None:
        with self._change:
            self._jpeg, self._number = jpeg, self._number + 1
            self._change.notify_all()

    def watch(self, joins: bool) -> None:
        with self._change:
            self.watchers += 1 if joins else -1

    def next(self, after: int) -> tuple[int, bytes] | None:
        """The newest frame when there is one after that number; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._ended or self._number > after)
            return None if self._ended or self._jpeg is None else (self._number, self._jpeg)

    def end(self) -> None:
        with self._change:
            self._ended = True
            self._change.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    shown: _Shown


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        # A page of another site may lead its own name to this machine.
        if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", _PAGE)
        elif self.path == "/status.json":
            self._answer("application/json", self.server.shown.status())
        elif self.path == "/stream.mjpg":
            self._stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        shown, number = self.server.shown, 0
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        shown.watch(True)
        try:
            while (newest := shown.next(number)) is not None:
                number, jpeg = newest
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:  # who looked has gone
            return
        finally:
            shown.watch(False)

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing: standard error is for errors."""


def _as_jpeg(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()
