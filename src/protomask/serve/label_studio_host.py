"""The Label Studio whose images a server fetches: where it is, and how it knows who asks."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from protomask.errors import DataError
from protomask.images.fetch import TrustedHost, is_url

_CLOUD = ("s3", "gs", "azure-blob")
_TOKEN_SECONDS = 240.0  # Label Studio's access tokens live five minutes
_TIMEOUT = 10.0


class LabelStudioHost:
    """A Label Studio, and the key of one of its users. Thread-safe.

    Args:
        url: its address.
        key: a legacy token, or a personal access token, for which short-lived ones are asked; empty for none.

    """

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._access = ""
        self._until = 0.0
        self._asking = threading.Lock()

    def trusted(self) -> TrustedHost:
        """For fetching; it may ask Label Studio for a token.

        Raises:
            DataError: it gives none.

        """
        if not self._key:
            return TrustedHost(self.url)
        if self._key.count(".") != 2:
            return TrustedHost(self.url, f"Token {self._key}")
        with self._asking:
            if time.monotonic() > self._until:
                self._access = self._new_token()
                self._until = time.monotonic() + _TOKEN_SECONDS
            return TrustedHost(self.url, f"Bearer {self._access}")

    def _new_token(self) -> str:
        body = json.dumps({"refresh": self._key}).encode()
        asked = Request(f"{self.url}/api/token/refresh/", body, {"Content-Type": "application/json"})
        try:
            with urlopen(asked, timeout=_TIMEOUT) as answer:
                return str(json.load(answer)["access"])
        except (URLError, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.url}: gave no token for the key: {type(error).__name__}") from error

    def address(self, image: str, task_id: Any) -> str:
        """Where an image of a task is fetched: paths of Label Studio and what lies in its cloud storage come from it.

        Args:
            image: what the data of the task has.
            task_id: of the task.

        """
        if is_url(image):
            return image
        if urlsplit(image).scheme in _CLOUD:
            place = base64.urlsafe_b64encode(image.encode()).decode()
            return f"{self.url}/tasks/{task_id}/presign/?fileuri={place}"
        return urljoin(f"{self.url}/", image.lstrip("/"))
