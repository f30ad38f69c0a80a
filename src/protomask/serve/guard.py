"""What stands around every request: limits of the body, the key, the access log, and errors as problems."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import sys
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.problems import PROBLEM_TYPE, ProblemError

_BODIES = 16
"""Bodies of the largest size that are held at once; small ones may be more."""
_OPEN = ("/healthz", "/readyz")
_KEPT = ("/v1/", "/metrics", "/setup", "/health", "/versions", "/predict", "/webhook", "/train")
"""Paths that ask for the key; the page itself is public, what it asks for is not."""


class Guard:
    """Outermost layer of the application.

    Args:
        app: the application.
        options: limits.
        metrics: where requests are counted.
        api_key: what requests must bring as ``Authorization: Bearer KEY``, as the password of ``Basic`` or as
            ``X-API-Key: KEY``; None asks for none.
        log: write one JSON line per request to standard output.

    """

    def __init__(
        self, app: ASGIApp, options: ServeOptions, metrics: Metrics, *, api_key: str | None = None, log: bool = True
    ) -> None:
        self._app = app
        self._options = options
        self._metrics = metrics
        self._api_key = api_key
        self._log = log
        self._bodies = _Bodies(round(_BODIES * options.max_body * (1 << 20)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._may_enter(scope):
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "a key is missing or wrong"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send, self._options, self._bodies)
        try:
            if not self._may_enter(scope):
                raise ProblemError(
                    401, "a key is missing or wrong", field="authorization", headers={"WWW-Authenticate": "Bearer"}
                )
            await self._app(scope, exchange.receive, exchange.send)
        except ProblemError as problem:
            await exchange.problem(problem)
        except Exception as error:  # no trace goes to a client
            print(f"serve: {exchange.id}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            await exchange.problem(ProblemError(500, f"the server failed; its log has more under {exchange.id}"))
        finally:
            exchange.end()
            seconds = time.monotonic() - exchange.started
            # The route as it is declared: names in paths must not become labels without end.
            route = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.request(route, exchange.status, seconds)
            if self._log:
                print(json.dumps(exchange.line(seconds)), flush=True)

    def _may_enter(self, scope: Scope) -> bool:
        path = scope["path"]
        if self._api_key is None or path in _OPEN or not path.startswith(_KEPT):
            return True
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        given = headers.get("x-api-key") or _authorized_key(headers.get("authorization", b""))
        if scope["type"] == "websocket" and not given:
            given = _protocol_key(headers.get("sec-websocket-protocol", b""))
        return hmac.compare_digest(given, self._api_key.encode())


def _authorized_key(authorization: bytes) -> bytes:
    kind, _, value = authorization.partition(b" ")
    if kind.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return value if kind.lower() == b"bearer" else b""


def _protocol_key(protocols: bytes) -> bytes:
    """A browser cannot set headers of a WebSocket; it brings the key as the protocol ``key.KEY``."""
    for part in protocols.split(b","):
        if part.strip().startswith(b"key."):
            return part.strip()[4:]
    return b""


class _Bodies:
    """Bytes of all bodies that are being read or computed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class _Exchange:
    """One request and its answer: counts bytes, keeps limits."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, options: ServeOptions, bodies: _Bodies) -> None:
        self.id = secrets.token_hex(8)
        self.started = time.monotonic()
        self.status = 0
        self._scope, self._receive, self._send = scope, receive, send
        self._limit = round(options.max_body * (1 << 20))
        self._body_ends = self.started + options.body_timeout
        self._body_timeout = options.body_timeout
        self._bodies = bodies
        self._read = self._written = 0
        self._complete = False
        length = dict(scope["headers"]).get(b"content-length", b"")
        self._too_long = length.isdigit() and int(length) > self._limit

    async def receive(self) -> Message:
        """The next message of the client.

        Raises:
            ProblemError: the body is too large, or comes too slowly.

        """
        if self._too_long:
            raise self._too_large()
        if self._complete:  # only the end of the connection can come now
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._body_ends - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(408, f"the body did not arrive within {self._body_timeout:g} s", field="body") from None
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            self._complete = not message.get("more_body", False)
            if self._read > self._limit:
                raise self._too_large()
        return message

    def _count(self, size: int) -> None:
        self._read += size
        self._bodies.held += size
        if self._bodies.held > self._bodies.limit:
            raise ProblemError(429, "too many large requests at once", field="body", headers={"Retry-After": "2"})

    def end(self) -> None:
        """Nothing of this request is held any more."""
        self._bodies.held -= self._read

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"expected a body of at most {self._limit / (1 << 20):g} MB", field="body")

    async def send(self, message: Message) -> None:
        """Send a message to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._written += len(message.get("body", b""))
        await self._send(message)

    async def problem(self, problem: ProblemError) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self.status:
            return
        body = problem.body()
        headers = {"Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body)), **problem.headers}
        await self.send(
            {
                "type": "http.response.start",
                "status": problem.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})

    def line(self, seconds: float) -> dict[str, Any]:
        """A line of the access log, without query, body or image."""
        client = self._scope.get("client")
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": self.id,
            "client": client[0] if client else None,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self.status or 499,  # the client has gone
            "ms": round(seconds * 1000, 1),
            "bytes_in": self._read,
            "bytes_out": self._written,
            **self._scope.get("state", {}).get("log", {}),
        }
