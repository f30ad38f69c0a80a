"""Files from the web: bounded in size and time, and never from the machine's own network unless asked for."""

from __future__ import annotations

import http.client
import ipaddress
import socket
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from protomask.errors import DataError

MAX_BYTES = 64 << 20
"""Of one fetched file."""
TIMEOUT = 20.0
"""Seconds without an answer."""


def is_url(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def fetch_url(url: str, *, max_bytes: int = MAX_BYTES, allow_private: bool = False, timeout: float = TIMEOUT) -> bytes:
    """The content of an address.

    The address that is really connected to is checked, also after a redirect, so a name that resolves to a private
    address is refused before anything is sent to it. Proxies are not used.

    Args:
        url: http:// or https:// address.
        max_bytes: larger answers are refused.
        allow_private: also connect to private, loopback and link-local addresses.
        timeout: seconds without an answer.

    Raises:
        DataError: another kind of address, one that cannot be reached or is private, or too large an answer; the
            message names it.

    """
    if not is_url(url):
        raise DataError(f"{url}: expected an address that begins with http:// or https://")
    request = Request(url, headers={"User-Agent": "protomask"})
    try:
        with _opener(allow_private).open(request, timeout=timeout) as answer:
            content: bytes = answer.read(max_bytes + 1)
    except HTTPError as error:
        raise DataError(f"{url}: the server answered {error.code} {error.reason}") from error
    except URLError as error:
        reason = error.reason
        raise DataError(
            f"{url}: {reason if isinstance(reason, DataError) else f'cannot be fetched: {reason}'}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: cannot be fetched: {error or type(error).__name__}") from error
    if len(content) > max_bytes:
        raise DataError(f"{url}: expected at most {max_bytes} bytes, got more")
    return content


def _opener(allow_private: bool) -> OpenerDirector:
    """Opens http and https only, whatever it is redirected to."""
    handlers: list[Any] = [ProxyHandler({})]
    if not allow_private:
        handlers += [_PublicHTTPHandler(), _PublicHTTPSHandler()]
    opener = build_opener(*handlers)
    for scheme in ("file", "ftp", "data"):
        opener.handle_open.pop(scheme, None)  # type: ignore[attr-defined]  # typeshed leaves it out
    return opener


class _PrivateAddressError(DataError, OSError):
    """A host name led to an address that is not public."""


def _check_public(connection: socket.socket) -> None:
    address = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if not (mapped or address).is_global:
        connection.close()
        raise _PrivateAddressError(f"expected a public address, got {address}")


def _checked(connect: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    def create(*args: Any, **kwargs: Any) -> socket.socket:
        connection = connect(*args, **kwargs)
        _check_public(connection)
        return connection

    return create


class _PublicHTTPConnection(http.client.HTTPConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _checked(socket.create_connection)


class _PublicHTTPSConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _checked(socket.create_connection)


class _PublicHTTPHandler(HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHTTPConnection, req)


class _PublicHTTPSHandler(HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHTTPSConnection, req)
