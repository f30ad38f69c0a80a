"""What the OpenAPI document says of the routes whose requests are read by hand."""

from __future__ import annotations

from typing import Any, get_args

from protomask.detection.options import NMS_MODES, Crop, Duplicates, Edges, Overlap, Owner, PredictOptions
from protomask.serve.problems import PROBLEM_TYPE
from protomask.serve.reading import FORMATS, MASK_FORMATS, SETTINGS

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The part of the request that it is about."},
    },
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "score_threshold": _SHARE,
    "threshold_for": {"type": "string", "pattern": "^precision=", "example": "precision=0.95"},
    "iou_threshold": _SHARE,
    "candidate_threshold": _SHARE,
    "max_detections": {"type": "integer", "minimum": 1},
    "nms": {"type": "string", "enum": list(NMS_MODES)},
    "overlap": {"type": "string", "enum": list(get_args(Overlap))},
    "duplicates": {"type": "string", "enum": list(get_args(Duplicates))},
    "crop": {"type": "string", "enum": list(get_args(Crop))},
    "crop_margin": {"type": "number", "minimum": 0},
    "edges": {"type": "string", "enum": list(get_args(Edges))},
    "exclusive": {"type": "string", "enum": list(get_args(Owner))},
    "tile": {"type": "integer", "minimum": 32},
    "tile_overlap": {"type": "number", "minimum": 0},
    "image_size": {"type": "integer", "minimum": 32},
    "classes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
}
_CHOICES: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"type": "string"}, "Name of the model; the first of the server by default."),
    "format": ({"type": "string", "enum": list(FORMATS)}, "Format of the answer; goes before the header Accept."),
    "masks": ({"type": "string", "enum": list(MASK_FORMATS)}, "How JSON has masks: COCO run-length codes by default."),
}
_BOX = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
_RLE = {
    "type": "object",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "counts": {"type": "string"},
    },
}
_INSTANCE = {
    "type": "object",
    "required": ["number", "label", "class_name", "score", "class_score", "box"],
    "properties": {
        "number": {"type": "integer"},
        "label": {"type": "integer"},
        "class_name": {"type": "string"},
        "score": _SHARE,
        "class_score": _SHARE,
        "mask_score": {"anyOf": [_SHARE, {"type": "null"}]},
        "box": {**_BOX, "description": "x1, y1, x2, y2 in pixels of the original image."},
        "segmentation": _RLE,
        "polygons": {"type": "array", "description": "Parts; of each the outline, then its holes."},
    },
}
_IMAGE = {
    "type": "object",
    "required": ["name", "size", "instances"],
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "instances": {"type": "array", "items": _INSTANCE},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["model", "images"],
    "properties": {"model": {"type": "string"}, "images": {"type": "array", "items": _IMAGE}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
PREDICT_PROBLEMS = {
    400: "The body cannot be parsed.",
    401: "A key is missing or wrong.",
    404: "No such model.",
    406: "No format of the header Accept is known.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The type of the body is not read.",
    422: "An image cannot be read, or a value does not fit; the problem names the field.",
    429: "Too many images wait; try again after the time in Retry-After.",
    500: "The server failed.",
    503: "No answer in time.",
}


def describe_predict() -> dict[str, Any]:
    """Arguments of the decorator of ``POST /v1/predict``."""
    texts = PredictOptions.help()
    settings = {name: {**_SCHEMAS[name], "description": texts[name]} for name in SETTINGS}
    choices = {name: {**schema, "description": text} for name, (schema, text) in _CHOICES.items()}
    entry = {
        "type": "object",
        "properties": {"base64": {"type": "string"}, "url": {"type": "string"}, "name": {"type": "string"}},
    }
    as_json = {
        "type": "object",
        "required": ["images"],
        "properties": {
            "images": {"type": "array", "items": entry, "minItems": 1},
            "options": {"type": "object", "properties": settings},
            **choices,
        },
    }
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "options": {"type": "string", "description": "The options as a JSON object."},
        },
    }
    return {
        "summary": "Find the instances in one or several images",
        "tags": ["prediction"],
        "responses": {
            200: {
                "description": "What was found.",
                "content": {
                    "application/json": {"schema": _ANSWER},
                    "application/geo+json": {"schema": {"type": "object"}},
                    "image/png": _BINARY,
                },
            },
            **_problems(PREDICT_PROBLEMS),
        },
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "required": False, "schema": schema, "explode": False}
                for name, schema in {**settings, **choices}.items()
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {"schema": form},
                    "application/json": {"schema": as_json},
                    "image/jpeg": _BINARY,
                    "image/png": _BINARY,
                    "application/octet-stream": _BINARY,
                },
            },
        },
    }


def describe_reload() -> dict[str, Any]:
    """Arguments of the decorator of ``POST /v1/models/{name}/reload``."""
    return {
        "summary": "Load a model again from its file; requests go on meanwhile",
        "tags": ["operation"],
        "responses": _problems({401: "A key is missing.", 403: "The server asks for no key.", 404: "No such model."}),
    }


def _problems(texts: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": text, "content": {PROBLEM_TYPE: {"schema": _PROBLEM}}} for status, text in texts.items()
    }
