"""The HTTP application: routes over the pools."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from protomask import __version__
from protomask.runtimes.shipped import SAMPLES
from protomask.serve.answers import MEDIA_TYPES
from protomask.serve.guard import Guard
from protomask.serve.label_studio import label_studio_routes
from protomask.serve.label_studio_host import LabelStudioHost
from protomask.serve.live import follow
from protomask.serve.metrics import Metrics
from protomask.serve.openapi import describe_predict, describe_reload
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool
from protomask.serve.problems import PROBLEM_TYPE, ProblemError
from protomask.serve.reading import read_request
from protomask.serve.service import Service, gone
from protomask.serve.site import PAGE

mimetypes.add_type("text/javascript", ".js")  # Windows may say that scripts are plain text, which browsers refuse
_ASK_AGAIN = {"Cache-Control": "no-cache"}
"""After an upgrade browsers must not mix files of two versions."""


class _PageFiles(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_ASK_AGAIN)
        return response


def create_app(
    pools: Mapping[str, ModelPool],
    options: ServeOptions | None = None,
    *,
    metrics: Metrics | None = None,
    api_key: str | None = None,
    label_studio: LabelStudioHost | None = None,
    log: bool = True,
) -> ASGIApp:
    """The application of a server.

    Args:
        pools: one per model by name; the first is the default. They are closed when the server ends.
        options: of the server.
        metrics: where everything is counted; the pools may observe with it, too.
        api_key: key that requests must bring; None asks for none.
        label_studio: the Label Studio that images of its tasks are fetched from; None for none.
        log: write one JSON line per request to standard output.

    """
    options = options or ServeOptions()
    metrics = metrics or Metrics()
    metrics.watch(pools.values())
    service = Service(pools, options, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="protomask", version=__version__, summary="Instance segmentation of images", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    _add_operations(app, service, has_key=api_key is not None)
    _add_predict(app, service)
    if options.label_studio:
        app.include_router(label_studio_routes(service, label_studio))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=_ASK_AGAIN)

    app.mount("/page", _PageFiles(directory=PAGE), name="page")
    app.mount("/samples", _PageFiles(directory=SAMPLES), name="samples")
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
        service.check_room()
        wanted = await read_request(request, service.options)
        pool = service.pool(wanted.model)
        request.state.log = {"model": pool.name, "images": len(wanted.tasks)}
        answers = await service.predict(pool, wanted.tasks, lambda: gone(request))
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
