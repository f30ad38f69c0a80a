"""Connections that end when their clients are too slow: heads that do not come, answers that nobody reads."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LINGER = 5.0
"""Seconds in which the rest of a request may come that was answered before its end."""


class Connection(H11Protocol):
    """uvicorn's connection, with times for what uvicorn waits for without end.

    The body of a request has its time in `protomask.serve.guard`, a connection between two requests that of uvicorn.
    """

    head_timeout = 10.0
    """Seconds from the first byte of a request, or from a new connection, to the end of its head."""
    write_timeout = 30.0
    """Seconds without a client taking anything of an answer that waits for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._start("head", self.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        super().connection_lost(exc)
        self._stop(*self._timers)

    def data_received(self, data: bytes) -> None:
        """Bytes of a client have come."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """An answer is written."""
        super().on_response_complete()
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on the connection is that of a WebSocket."""
        self._stop(*self._timers)
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """A client takes an answer more slowly than it is written."""
        super().pause_writing()
        self._start("write", self.write_timeout)

    def resume_writing(self) -> None:
        """A client has taken what was written."""
        super().resume_writing()
        self._stop("write")

    def _watch(self) -> None:
        """Set or stop the time for a head, and that for the rest of a request that was answered."""
        if self.transport.get_protocol() is not self or self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE:
            self._stop("head")
        elif self.conn.trailing_data[0]:
            self._start("head", self.head_timeout)
        if answered and self.conn.their_state is h11.SEND_BODY:
            self._start("rest", LINGER)
        else:
            self._stop("rest")

    def _start(self, name: str, seconds: float) -> None:
        """Begin a time, unless it runs; the connection is cut off when it is over."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self, *names: str) -> None:
        for name in names:
            if (timer := self._timers.pop(name, None)) is not None:
                timer.cancel()


def connection_class(head_timeout: float, write_timeout: float) -> type[Connection]:
    """A class of connections with these times, seconds, for uvicorn."""
    return type("TimedConnection", (Connection,), {"head_timeout": head_timeout, "write_timeout": write_timeout})
