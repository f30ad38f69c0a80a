"""The HTTP application: routes over the pools."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from protomask import __version__
from protomask.serve.answers import MEDIA_TYPES
from protomask.serve.guard import Guard
from protomask.serve.jobs import Answer, Job, Task
from protomask.serve.live import follow
from protomask.serve.metrics import Metrics
from protomask.serve.openapi import describe_predict, describe_reload
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool, OverloadedError
from protomask.serve.problems import PROBLEM_TYPE, ProblemError
from protomask.serve.reading import read_request

PAGE = Path(str(files("protomask.serve"))) / "page"
"""Folder of the page: plain HTML, CSS and JavaScript."""
SAMPLES = Path(str(files("protomask"))) / "samples"
"""Folder of the sample images that the page offers."""


class Service:
    """The models of a server, and what is done with them.

    Args:
        pools: one per model by name; the first is the default.
        options: of the server.
        metrics: where everything is counted.

    """

    def __init__(self, pools: Mapping[str, ModelPool], options: ServeOptions, metrics: Metrics) -> None:
        self.pools = dict(pools)
        self.options = options
        self.metrics = metrics

    def pool(self, name: str | None) -> ModelPool:
        """The model of a request.

        Raises:
            ProblemError: 404, no such model.

        """
        if name is None:
            return next(iter(self.pools.values()))
        if name not in self.pools:
            raise ProblemError(404, f"no such model: {name!r}; there are: {', '.join(self.pools)}", field="model")
        return self.pools[name]

    async def predict(
        self, pool: ModelPool, tasks: list[Task], is_gone: Callable[[], Awaitable[None]] | None = None
    ) -> list[Answer]:
        """Answers to all images of a request.

        Args:
            pool: the model.
            tasks: the images.
            is_gone: returns when the client has gone; then nothing more is computed for it.

        Raises:
            ProblemError: 429 where the queue is full, 503 where it takes too long, 400 where nobody waits any more.

        """
        deadline = time.monotonic() + self.options.timeout
        jobs = [Job(task=task, deadline=deadline) for task in tasks]
        try:
            pool.submit(jobs)
        except OverloadedError as error:
            retry = {"Retry-After": str(round(error.retry_after + 0.5))}
            raise ProblemError(429, str(error), headers=retry) from error
        answers = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        answers.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody need ask for it
        gone = asyncio.ensure_future(is_gone()) if is_gone is not None else None
        try:
            waited: list[asyncio.Future[Any]] = [answers] if gone is None else [answers, gone]
            await asyncio.wait(waited, timeout=self.options.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return answers.result()
            if gone is not None and gone.done():
                self.metrics.abandoned()
                raise ProblemError(400, "the client has gone")  # which nobody reads
            raise ProblemError(503, f"no answer within {self.options.timeout:g} s", headers={"Retry-After": "5"})
        finally:
            answers.cancel()
            for job in jobs:
                job.future.cancel()
            if gone is not None:
                gone.cancel()


def create_app(
    pools: Mapping[str, ModelPool],
    options: ServeOptions | None = None,
    *,
    metrics: Metrics | None = None,
    api_key: str | None = None,
    log: bool = True,
) -> ASGIApp:
    """The application of a server.

    Args:
        pools: one per model by name; the first is the default. They are closed when the server ends.
        options: of the server.
        metrics: where everything is counted; the pools may observe with it, too.
        api_key: key that requests must bring; None asks for none.
        log: write one JSON line per request to standard output.

    """
    options = options or ServeOptions()
    metrics = metrics or Metrics()
    metrics.watch(pools.values())
    service = Service(pools, options, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.gather(*(asyncio.to_thread(pool.close) for pool in service.pools.values()))

    app = FastAPI(
        title="protomask", version=__version__, summary="Instance segmentation of images", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    _add_operations(app, service, has_key=api_key is not None)
    _add_predict(app, service)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.mount("/samples", StaticFiles(directory=SAMPLES), name="samples")
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(options.cors_origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return Guard(app, options, metrics, api_key=api_key, log=log)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return Response(error.body(), error.status, error.headers, PROBLEM_TYPE)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = ProblemError(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    return Response(problem.body(), problem.status, problem.headers, PROBLEM_TYPE)


def _add_operations(app: FastAPI, service: Service, *, has_key: bool) -> None:
    @app.get("/healthz", summary="Whether the server runs", tags=["operation"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether every model has a worker", tags=["operation"], responses={503: {}})
    async def readyz() -> JSONResponse:
        ready = {name: pool.ready_workers for name, pool in service.pools.items()}
        return JSONResponse(
            {
                "ready": all(ready.values()),
                "models": {name: {"ready": count, "workers": service.options.workers} for name, count in ready.items()},
            },
            200 if all(ready.values()) else 503,
        )

    @app.get("/metrics", summary="Metrics for Prometheus", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", summary="The models of this server", tags=["prediction"])
    async def models() -> dict[str, Any]:
        return {"models": [_describe(pool, service.options) for pool in service.pools.values()]}

    @app.post("/v1/models/{name}/reload", **describe_reload())
    async def reload(name: str) -> dict[str, Any]:
        if not has_key:
            raise ProblemError(403, "expected a server that asks for a key, or the signal SIGHUP")
        pool = service.pool(name)
        await asyncio.to_thread(pool.reload)
        return _describe(pool, service.options)


def _describe(pool: ModelPool, options: ServeOptions) -> dict[str, Any]:
    return {
        "name": pool.name,
        "model": pool.about.model,
        "runtime": pool.about.runtime,
        "class_names": list(pool.about.class_names),
        "ready": pool.ready_workers,
        "workers": options.workers,
    }


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", **describe_predict())
    async def predict(request: Request) -> Response:
        wanted = await read_request(request, service.options)
        pool = service.pool(wanted.model)
        request.state.log = {"model": pool.name, "images": len(wanted.tasks)}
        answers = await service.predict(pool, wanted.tasks, lambda: _gone(request))
        for index, answer in enumerate(answers):
            if answer.error:
                raise ProblemError(answer.status, answer.error, field=answer.field or f"images[{index}]")
        if wanted.format in ("png", "label-map"):
            return Response(answers[0].content, media_type=MEDIA_TYPES[wanted.format])
        if wanted.format == "geojson" and len(answers) == 1:
            return Response(answers[0].content, media_type=MEDIA_TYPES["geojson"])
        head = f'{{"model": {json.dumps(pool.name)}, "images": ['.encode()
        return Response(
            head + b", ".join(answer.content for answer in answers) + b"]}", media_type=MEDIA_TYPES[wanted.format]
        )

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await follow(socket, service)


async def _gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
