"""Requests for a prediction: multipart, raw bytes or JSON become tasks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.images.fetch import is_url
from protomask.serve.answers import MEDIA_TYPES
from protomask.serve.jobs import Format, MaskFormat, Task
from protomask.serve.options import ServeOptions
from protomask.serve.problems import ProblemError

FORMATS: tuple[Format, ...] = ("json", "geojson", "png", "label-map")
MASK_FORMATS: tuple[MaskFormat, ...] = get_args(MaskFormat)
SETTINGS = tuple(field.name for field in fields(PredictOptions) if field.name != "batch_size")
"""Options of a prediction that a request may have; the server makes the batches."""
_OTHERS = ("model", "format", "masks")
_RAW = ("application/octet-stream", "image/")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a request asks for.

    Attributes:
        model: name of the model; None for the server's first.
        format: of the answer.
        tasks: one per image.

    """

    model: str | None
    format: Format
    tasks: list[Task]


async def read_request(request: Request, options: ServeOptions) -> Wanted:
    """Understand a request for a prediction.

    Raises:
        ProblemError: 400 for a body that cannot be parsed, 406, 415, 422 for values that do not fit; the problem
            names the field.

    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    given: dict[str, Any] = {}
    if kind == "multipart/form-data":
        images, given = await _read_form(request, options)
    elif kind == "application/json":
        body = await request.body()
        images, given = await asyncio.to_thread(_read_json, body, options)  # a large one takes a while
    elif kind.startswith(_RAW):
        images = [(await request.body(), "image")]
    else:
        raise ProblemError(
            415,
            "expected multipart/form-data, application/json, application/octet-stream or an image type, got "
            f"{kind or 'none'}",
            field="content-type",
        )
    given = {**_of_query(request), **given}
    return _settle(images, given, request.headers.get("accept", ""), options)


def _settle(
    images: list[tuple[bytes | str, str]], given: Mapping[str, Any], accept: str, options: ServeOptions
) -> Wanted:
    unknown = sorted(set(given) - {*SETTINGS, *_OTHERS})
    if unknown:
        raise ProblemError(422, f"expected some of {', '.join([*SETTINGS, *_OTHERS])}", field=unknown[0])
    if not images:
        raise ProblemError(422, "expected at least one image", field="images")
    if len(images) > options.max_images:
        raise ProblemError(422, f"expected at most {options.max_images} images, got {len(images)}", field="images")
    answer = _format(given, accept)
    if answer in ("png", "label-map") and len(images) > 1:
        raise ProblemError(422, f"expected one image for the format {answer}, got {len(images)}", field="images")
    masks = given.get("masks", "rle")
    if masks not in MASK_FORMATS:
        raise ProblemError(422, f"expected one of {', '.join(MASK_FORMATS)}", field="masks")
    model = given.get("model")
    if model is not None and not isinstance(model, str):
        raise ProblemError(422, "expected the name of a model", field="model")
    settings = {name: value for name, value in given.items() if name in SETTINGS}
    try:
        settled = PredictOptions.from_dict(settings)
    except ConfigError as error:
        field, _, detail = str(error).partition(": ")
        raise ProblemError(422, detail or str(error), field=field if detail else None) from error
    limit = round(options.max_pixels * 1e6)
    tasks = [
        Task(image=image, name=name, options=settled, format=answer, masks=masks, max_pixels=limit)
        for image, name in images
    ]
    return Wanted(model=model, format=answer, tasks=tasks)


def _format(given: Mapping[str, Any], accept: str) -> Format:
    if "format" in given:
        for known in FORMATS:
            if given["format"] == known:
                return known
        raise ProblemError(422, f"expected one of {', '.join(FORMATS)}", field="format")
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if not kinds:
        return "json"
    for kind in kinds:
        for known in FORMATS:
            if kind in ("*/*", "application/*") or kind == MEDIA_TYPES[known]:
                return "json" if kind.endswith("*") else known
        if kind == "image/*":
            return "png"
    raise ProblemError(
        406, f"expected {', '.join(dict.fromkeys(MEDIA_TYPES[known] for known in FORMATS))} or */*", field="accept"
    )


def _of_query(request: Request) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in given:
            raise ProblemError(422, "expected it once", field=name)
        given[name] = setting_of_query(name, text)
    return given


def setting_of_query(name: str, text: str) -> Any:
    """A setting that came as text."""
    if name in _OTHERS or name == "nms":
        return text
    if name == "classes":
        return [part.strip() for part in text.split(",")]
    try:
        return json.loads(text, parse_constant=lambda constant: constant)
    except ValueError:
        return text


async def _read_form(request: Request, options: ServeOptions) -> tuple[list[tuple[bytes | str, str]], dict[str, Any]]:
    images: list[tuple[bytes | str, str]] = []
    given: dict[str, Any] = {}
    try:
        async with request.form(max_files=options.max_images + 1, max_fields=100) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name not in ("image", "images"):
                        raise ProblemError(422, "expected files as parts named image", field=name)
                    images.append((await value.read(), value.filename or f"images[{len(images)}]"))
                elif name == "options":
                    given.update(as_object(parsed(value.encode(), "options"), "options"))
                elif name in ("image", "images"):
                    raise ProblemError(422, "expected a file with a file name, got text", field=name)
                else:
                    given[name] = setting_of_query(name, value)
    except HTTPException as error:  # of the parser
        raise ProblemError(400, str(error.detail), field="body") from error
    return images, given


def _read_json(body: bytes, options: ServeOptions) -> tuple[list[tuple[bytes | str, str]], dict[str, Any]]:
    content = dict(as_object(parsed(body, "body"), "body"))
    entries = content.pop("images", None)
    if not isinstance(entries, list):
        raise ProblemError(422, 'expected a list of objects with "base64" or "url"', field="images")
    given = as_object(content.pop("options", {}), "options")
    images = [_image(entry, f"images[{index}]", options) for index, entry in enumerate(entries)]
    return images, {**given, **content}


def _image(entry: Any, field: str, options: ServeOptions) -> tuple[bytes | str, str]:
    if not isinstance(entry, dict) or ("base64" in entry) == ("url" in entry):
        raise ProblemError(422, 'expected an object with either "base64" or "url"', field=field)
    name = entry.get("name", field)
    if not isinstance(name, str):
        raise ProblemError(422, "expected a text", field=f"{field}.name")
    if "url" in entry:
        url = entry["url"]
        if not options.fetch:
            raise ProblemError(422, "expected base64: this server fetches no addresses", field=f"{field}.url")
        if not isinstance(url, str) or not is_url(url):
            raise ProblemError(422, "expected an http or https address", field=f"{field}.url")
        return url, name
    code = entry["base64"]
    if not isinstance(code, str):
        raise ProblemError(422, "expected base64", field=f"{field}.base64")
    try:
        return read_data_address(code), name
    except DataError as error:
        raise ProblemError(422, str(error), field=f"{field}.base64") from error


def read_data_address(code: str) -> bytes:
    """The bytes of base64, with or without the ``data:`` of an address before it.

    Raises:
        DataError: it is none.

    """
    try:
        return base64.b64decode(code.rpartition(",")[2] if code.startswith("data:") else code, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"expected base64: {error}") from error


def parsed(text: bytes, field: str) -> Any:
    """JSON of a part of a request.

    Raises:
        ProblemError: 400, it is none.

    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"expected JSON: {error}", field=field) from error


def as_object(value: Any, field: str) -> Mapping[str, Any]:
    """A value that has to be a JSON object.

    Raises:
        ProblemError: 422, it is none.

    """
    if not isinstance(value, dict):
        raise ProblemError(422, "expected a JSON object", field=field)
    return value
