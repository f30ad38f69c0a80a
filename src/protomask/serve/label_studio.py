"""Routes of a machine learning backend of Label Studio: health, setup, predict, and what it says besides."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.images.fetch import TrustedHost, is_url
from protomask.serve.jobs import Answer, Task
from protomask.serve.label_config import SHAPES, Control, read_control
from protomask.serve.label_studio_host import LabelStudioHost
from protomask.serve.pool import ModelPool
from protomask.serve.problems import ProblemError
from protomask.serve.reading import as_object, parsed, read_data_address
from protomask.serve.service import Service, gone

_PROJECTS = 1000  # whose parameters are remembered
_SETTINGS = {one.name for one in fields(PredictOptions)} - {"batch_size", "classes"}


@dataclass(frozen=True)
class _Project:
    """What a project asked for when it was set up."""

    model: str | None = None
    shape: Any = None
    options: PredictOptions = field(default_factory=PredictOptions)


class LabelStudio:
    """Answers the requests of a Label Studio.

    Args:
        service: the models.
        host: where images that have no address of their own are fetched; None for nowhere.

    """

    def __init__(self, service: Service, host: LabelStudioHost | None) -> None:
        self._service = service
        self._host = host
        self._projects: OrderedDict[str, _Project] = OrderedDict()

    def setup(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Whether the model has what the project labels; its parameters are remembered.

        Raises:
            ProblemError: 422, it has not, or a parameter does not fit.

        """
        project = _read_project(content.get("extra_params"))
        pool = self._service.pool(project.model)
        control = _control(content.get("schema"), pool, project)
        name = str(content.get("project"))
        self._projects[name] = project
        self._projects.move_to_end(name)
        while len(self._projects) > _PROJECTS:
            self._projects.popitem(last=False)
        if control.unknown:
            unknown = ", ".join(control.unknown)
            print(f"serve: label studio: {pool.name} has no class of the labels {unknown}", file=sys.stderr, flush=True)
        return {
            "model_version": pool.name,
            "from_name": control.from_name,
            "type": control.kind,
            "labels": list(dict.fromkeys(control.labels.values())),
            "unknown_labels": list(control.unknown),
        }

    async def predict(self, content: Mapping[str, Any], request: Request) -> bytes:
        """Predictions for the tasks of a request, in their order.

        Raises:
            ProblemError: 422, something does not fit, or no task has an image that can be read.

        """
        tasks = content.get("tasks")
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
            raise ProblemError(422, "expected a list of tasks", field="tasks")
        project = self._projects.get(str(content.get("project")), _Project())
        pool = self._service.pool(project.model)
        control = _control(content.get("label_config"), pool, project)
        request.state.log = {"model": pool.name, "images": len(tasks)}
        trusted = await self._trusted()
        names = tuple(name for name in pool.about.class_names if name in control.labels)
        options = PredictOptions.from_dict({**project.options.to_dict(), "classes": names})
        found = []
        for start in range(0, len(tasks), self._service.options.max_images):
            chunk = tasks[start : start + self._service.options.max_images]
            found += await self._predict_some(chunk, start, pool, control, options, trusted, request)
        if all(answer.error for answer in found):
            raise ProblemError(found[0].status, found[0].error, field=found[0].field or "tasks[0]")
        return b'{"results": [' + b", ".join(_as_result(one, pool.name) for one in found) + b"]}"

    async def _trusted(self) -> TrustedHost | None:
        if self._host is None:
            return None
        try:
            return await asyncio.to_thread(self._host.trusted)
        except DataError as error:
            raise ProblemError(503, str(error)) from error

    async def _predict_some(
        self,
        tasks: Sequence[Mapping[str, Any]],
        first: int,
        pool: ModelPool,
        control: Control,
        options: PredictOptions,
        trusted: TrustedHost | None,
        request: Request,
    ) -> list[Answer]:
        limit = round(self._service.options.max_pixels * 1e6)
        read: list[Task | Answer] = []
        for index, task in enumerate(tasks, start=first):
            name = f"tasks[{index}].data.{control.key}"
            try:
                image = self._image(task, control.key, trusted)
            except DataError as error:
                read.append(Answer(error=str(error), status=422, field=name))
                continue
            read.append(
                Task(
                    image=image, name=name, options=options, format="label-studio", control=control, max_pixels=limit,
                    trusted=trusted,
                )
            )  # fmt: skip
        wanted = [one for one in read if isinstance(one, Task)]
        answers = iter(await self._service.predict(pool, wanted, lambda: gone(request)) if wanted else [])
        return [one if isinstance(one, Answer) else next(answers) for one in read]

    def _image(self, task: Mapping[str, Any], key: str, trusted: TrustedHost | None) -> bytes | str:
        """The bytes of the image of a task, or where to fetch it.

        Raises:
            DataError: there is none, or it must not be fetched.

        """
        data = task.get("data")
        image = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(image, str) or not image:
            raise DataError("expected the address of an image")
        if image.startswith("data:"):
            return read_data_address(image)
        if self._host is not None:
            image = self._host.address(image, task.get("id"))
        elif not is_url(image):
            raise DataError("expected the environment variable LABEL_STUDIO_URL, to fetch images of Label Studio from")
        if not self._service.options.fetch and not (trusted is not None and trusted.has(image)):
            raise DataError("expected an image of Label Studio itself: the setting fetch allows other public addresses")
        return image


def label_studio_routes(service: Service, host: LabelStudioHost | None) -> APIRouter:
    """The routes.

    Args:
        service: the models.
        host: where images that have no address of their own are fetched; None for nowhere.

    """
    studio = LabelStudio(service, host)
    router = APIRouter(include_in_schema=False)

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "protomask"}

    @router.get("/versions")
    async def versions() -> dict[str, Any]:
        return {"versions": list(service.pools)}

    @router.post("/setup")
    async def setup(request: Request) -> dict[str, Any]:
        return studio.setup(await _content(request))

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        return Response(await studio.predict(await _content(request), request), media_type="application/json")

    @router.post("/webhook")
    async def webhook(request: Request) -> dict[str, Any]:
        await _content(request)
        return {"status": "ok", "result": None}  # annotations are made by then; nothing is to be done

    @router.post("/train")
    async def train(request: Request) -> JSONResponse:
        await _content(request)
        return JSONResponse({}, 201)  # no job: protomask train does that, with the data of an export

    return router


async def _content(request: Request) -> Mapping[str, Any]:
    return as_object(parsed(await request.body(), "body"), "body")


def _read_project(given: Any) -> _Project:
    """The parameters that a user gave with the address of this server: an object, or its JSON."""
    if isinstance(given, str) and given.strip():
        given = parsed(given.encode(), "extra_params")
    if not given:
        return _Project()
    content = dict(as_object(given, "extra_params"))
    model, shape = content.pop("model", None), content.pop("shape", None)
    if model is not None and not isinstance(model, str):
        raise ProblemError(422, "expected the name of a model", field="extra_params.model")
    if shape is not None and shape not in SHAPES:
        raise ProblemError(422, f"expected one of {', '.join(SHAPES)}", field="extra_params.shape")
    unknown = sorted(set(content) - _SETTINGS)
    if unknown:
        known = ", ".join(["model", "shape", *sorted(_SETTINGS)])
        raise ProblemError(422, f"expected some of {known}", field=f"extra_params.{unknown[0]}")
    try:
        return _Project(model, shape, PredictOptions.from_dict(content))
    except ConfigError as error:
        raise ProblemError(422, str(error), field="extra_params") from error


def _control(xml: Any, pool: ModelPool, project: _Project) -> Control:
    if not isinstance(xml, str):
        raise ProblemError(422, "expected the labelling configuration", field="label_config")
    try:
        return read_control(xml, pool.about.class_names, project.shape)
    except ConfigError as error:
        raise ProblemError(422, str(error), field="label_config") from error


def _as_result(answer: Answer, version: str) -> bytes:
    """A prediction. One that failed has no region, another version and so is asked for again."""
    if answer.error:
        print(f"serve: label studio: {answer.field or ''}: {answer.error}", file=sys.stderr, flush=True)
        return json.dumps({"result": [], "score": 0.0, "model_version": f"{version} failed: {answer.error}"}).encode()
    return answer.content[:-1] + b', "model_version": ' + json.dumps(version).encode() + b"}"
