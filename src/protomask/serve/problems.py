"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

PROBLEM_TYPE = "application/problem+json"


class ProblemError(Exception):
    """Ends a request with a problem.

    Args:
        status: of HTTP.
        detail: what is wrong with this request, in one sentence.
        field: part of the request that it is about, such as ``images[1]`` or ``score_threshold``.
        headers: of the answer.

    """

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers or {}

    def body(self) -> bytes:
        """The JSON of the answer."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            content["field"] = self.field
        return json.dumps(content).encode()
