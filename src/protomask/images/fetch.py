"""Files from the web: bounded in size and time, and never from the machine's own network unless asked for."""

from __future__ import annotations

import io
import ipaddress
import socket
from time import monotonic
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from protomask.errors import DataError

MAX_BYTES = 64 << 20
"""Maximum size of a fetched file."""
TIMEOUT = 20.0
"""Seconds without an answer."""
MAX_SECONDS = 120.0
"""Time from the first request to the last byte, including redirects."""
MAX_REDIRECTS = 5

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = "!#$%&'()*+,/:;=?@[]~"  # what an address may hold; anything else is escaped
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedHost(NamedTuple):
    """A server that may be private, and who asks it.

    Attributes:
        url: its address; only what lies there is trusted: scheme, host and port.
        authorization: header that it, and nobody else, gets; empty for none.

    """

    url: str
    authorization: str = ""

    def has(self, url: str) -> bool:
        """Whether an address is of this server."""
        return _origin(url) == _origin(self.url)


class _Limits(NamedTuple):
    max_bytes: int
    allow_private: bool
    trusted: TrustedHost | None
    timeout: float
    deadline: float  # of `time.monotonic`

    def seconds(self) -> float:
        """How long the next step may take."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long")
        return min(self.timeout, left)


class _MovedError(Exception):
    """The file is at another address."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def is_url(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def fetch_url(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,
    allow_private: bool = False,
    timeout: float = TIMEOUT,
    max_seconds: float = MAX_SECONDS,
    trusted: TrustedHost | None = None,
) -> bytes:
    """The content of an address.

    A name that leads to a private address is refused before anything is connected to, also after a redirect. Proxies
    are not used, and certificates are checked.

    Args:
        url: http:// or https:// address.
        max_bytes: larger answers are refused.
        allow_private: also connect to private, loopback and link-local addresses.
        timeout: seconds without an answer.
        max_seconds: seconds for everything.
        trusted: server that may be private, too.

    Raises:
        DataError: another kind of address, one that cannot be reached or is private, or too large an answer; the
            message names it.

    """
    from http.client import HTTPException  # here and below: what is not fetched need not wait for these imports

    limits = _Limits(max_bytes, allow_private, trusted, timeout, monotonic() + max_seconds)
    name = place = url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                return _get(place, limits)
            except _MovedError as moved:
                place = moved.url
                name = f"{url}, which leads to {place}"
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{name}: cannot be fetched: {error or type(error).__name__}") from error
    raise DataError(f"{name}: expected at most {MAX_REDIRECTS} redirects, got more")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _get(url: str, limits: _Limits) -> bytes:
    import ssl

    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise DataError("expected an address that begins with http:// or https://")
    if limits.trusted is not None and limits.trusted.has(url):
        limits = limits._replace(allow_private=True)
    else:
        limits = limits._replace(trusted=None)
    with _connect(parts.hostname, parts.port or _PORTS[parts.scheme], limits) as plain:
        plain.settimeout(limits.seconds())
        if parts.scheme == "http":
            return _ask(plain, parts, limits)
        with ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) as encrypted:
            return _ask(encrypted, parts, limits)


def _connect(host: str, port: int, limits: _Limits) -> socket.socket:
    """A connection to the first address of a host that answers; all of them have to be public."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not (limits.allow_private or _is_public(ipaddress.ip_address(str(address[0]).partition("%")[0]))):
            raise DataError(f"expected a public address, got {address[0]}")
    failure: OSError = OSError(f"no address of {host} is known")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(limits.seconds())
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    is_obsolete = isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address.sixtofour)
    return address.is_global and not (address.is_multicast or address.is_reserved or is_obsolete)


def _ask(connected: socket.socket, parts: SplitResult, limits: _Limits) -> bytes:
    from http.client import HTTPConnection, responses

    connection = HTTPConnection(parts.hostname or "", parts.port or _PORTS[parts.scheme])
    connection.default_port = _PORTS[parts.scheme]  # the one that is not named
    connection.sock = _Conversation(connected, limits)
    target = parts._replace(scheme="", netloc="", path=parts.path or "/", fragment="").geturl()
    headers = {"User-Agent": "protomask", "Accept-Encoding": "identity", "Connection": "close"}
    if limits.trusted is not None and limits.trusted.authorization:
        headers["Authorization"] = limits.trusted.authorization
    connection.request("GET", quote(target, safe=_SAFE), headers=headers)
    with connection.getresponse() as answer:
        place = answer.headers.get("Location")
        if answer.status in _REDIRECTS and place:
            raise _MovedError(urljoin(parts.geturl(), quote(place, safe=_SAFE, encoding="iso-8859-1")))
        if not 200 <= answer.status < 300:
            reason = responses.get(answer.status, "")  # not the server's words, which may hold anything
            raise DataError(f"the server answered {answer.status} {reason}".rstrip())
        if answer.length is not None and answer.length > limits.max_bytes:
            raise DataError(f"expected at most {limits.max_bytes} bytes, got {answer.length}")
        content = answer.read(limits.max_bytes + 1)
        if len(content) > limits.max_bytes:
            raise DataError(f"expected at most {limits.max_bytes} bytes, got more")
        if answer.length:
            raise DataError(f"the connection broke off, {answer.length} bytes are missing")
        return content


class _Conversation:
    """A connected socket, as far as `http.client` uses one; all that is read has to come before the deadline."""

    def __init__(self, connected: socket.socket, limits: _Limits) -> None:
        self._connected = connected
        self._limits = limits

    def sendall(self, content: bytes) -> None:
        self._connected.settimeout(self._limits.seconds())
        self._connected.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._connected, self._limits))

    def close(self) -> None:
        """Leave closing to whoever has connected: `http.client` closes before everything is read."""


class _Answer(io.RawIOBase):
    """What comes from a socket."""

    def __init__(self, connected: socket.socket, limits: _Limits) -> None:
        self._connected = connected
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed has a private type here
        self._connected.settimeout(self._limits.seconds())
        return self._connected.recv_into(buffer)
