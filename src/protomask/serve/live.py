"""``WS /v1/live``: frames of a camera come as images, what was found goes back, with identities."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.serve.answers import as_json
from protomask.serve.jobs import Task
from protomask.serve.problems import ProblemError

if TYPE_CHECKING:
    from protomask.inference.tracking.tracker import Tracker
    from protomask.serve.service import Service


class _Newest:
    """The newest frame of a client; older ones that nobody took are dropped and counted."""

    def __init__(self) -> None:
        self._frame: tuple[int, float, bytes] | None = None
        self._came = asyncio.Event()
        self.count = self.dropped = 0

    def put(self, frame: bytes) -> None:
        self.dropped += self._frame is not None
        self._frame = (self.count, time.monotonic(), frame)
        self.count += 1
        self._came.set()

    async def take(self) -> tuple[int, float, bytes]:
        await self._came.wait()
        self._came.clear()
        assert self._frame is not None
        frame, self._frame = self._frame, None
        return frame


async def follow(socket: WebSocket, service: Service) -> None:
    """Serve one client until it goes.

    A client sends the bytes of an image file per message, as often as it likes; for each frame that was processed it
    gets a JSON object: that of ``POST /v1/predict`` for one image, with ``track_id`` per instance, ``frame`` (number of
    the message), ``dropped`` (frames that were too many so far) and ``ms`` (from its arrival to this answer). The query
    has ``model`` and the options of a prediction; ``track=0`` leaves tracks out.
    """
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=next((one for one in offered if one.startswith("key.")), None))
    try:
        pool, options, tracker = _settle(socket, service)
    except ProblemError as problem:
        await socket.close(1008, problem.detail[:120])
        return
    newest = _Newest()
    answering = asyncio.ensure_future(_answer(socket, service, pool, options, tracker, newest))
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                break
            content = message.get("bytes")
            if not content or len(content) > service.options.max_body * (1 << 20):
                await socket.close(1009 if content else 1003, "expected the bytes of an image")
                break
            newest.put(content)
    except WebSocketDisconnect:
        pass
    finally:
        answering.cancel()


def _settle(socket: WebSocket, service: Service) -> tuple[Any, PredictOptions, Tracker | None]:
    from protomask.inference.predictor import options_for
    from protomask.inference.tracking.build import build_tracker
    from protomask.serve.reading import setting_of_query

    given = {name: setting_of_query(name, text) for name, text in socket.query_params.items()}
    pool = service.pool(given.pop("model", None))
    tracker = build_tracker() if given.pop("track", 1) not in (0, "0", False, "false") else None
    try:
        options = PredictOptions.from_dict(given)
    except ConfigError as error:
        raise ProblemError(422, str(error)) from error
    return pool, options if tracker is None else options_for(tracker, options), tracker


async def _answer(
    socket: WebSocket, service: Service, pool: Any, options: PredictOptions, tracker: Tracker | None, newest: _Newest
) -> None:
    limit = round(service.options.max_pixels * 1e6)
    while True:
        index, arrived, content = await newest.take()
        task = Task(image=content, name=f"frame {index}", options=options, format="instances", max_pixels=limit)
        try:
            (answer,) = await service.predict(pool, [task])
            problem = answer.error
        except ProblemError as error:
            problem = error.detail
        said: dict[str, Any] = {"error": problem}
        if not problem:
            found = pickle.loads(answer.content)  # of a worker of ours
            if tracker is not None:
                found = await asyncio.to_thread(tracker.update, found, arrived)
            said = await asyncio.to_thread(as_json, found, task.name, "rle")
        said |= {"frame": index, "dropped": newest.dropped, "ms": round((time.monotonic() - arrived) * 1000, 1)}
        await socket.send_text(json.dumps(said))
