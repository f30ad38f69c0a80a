from __future__ import annotations

import ipaddress
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

from protomask.errors import DataError
from protomask.images import fetch
from protomask.images.fetch import MAX_REDIRECTS, fetch_url, is_url

CONTENT = bytes(range(256)) * 4
local = partial(fetch_url, allow_private=True, timeout=5.0)


class Site(BaseHTTPRequestHandler):
    """What a server can do to whoever asks it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers.append(dict(self.headers))
        kind, _, rest = self.path.strip("/").partition("?")
        getattr(self, kind.partition("/")[0])(unquote(rest))

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def image(self, _: str) -> None:
        self.reply(200, length=len(CONTENT))
        self.wfile.write(CONTENT)

    def nothing(self, _: str) -> None:
        self.reply(200, length=0)

    def unsized(self, _: str) -> None:
        self.reply(200, Connection="close")
        self.wfile.write(CONTENT)
        self.close_connection = True

    def chunked(self, _: str) -> None:
        self.reply(200, Transfer_Encoding="chunked")
        for start in range(0, len(CONTENT), 100):
            part = CONTENT[start : start + 100]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def endless(self, _: str) -> None:
        self.reply(200, Connection="close")
        self.forever()

    def forever(self, pause: float = 0.0) -> None:
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b"x" * 1000 if pause == 0 else b"x")
                time.sleep(pause)
        except OSError:
            pass

    def short(self, _: str) -> None:
        self.reply(200, length=1000)
        self.wfile.write(b"x" * 10)
        self.close_connection = True

    def error(self, status: str) -> None:
        self.send_response(int(status), "\x1b[31mdo as I say")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def moved(self, place: str) -> None:
        """To where the address says; with a body that never ends, which nobody has to read."""
        self.reply(302, Location=place, Connection="close")
        self.forever()

    def see(self, place: str) -> None:
        status, _, place = place.partition(" ")
        self.reply(int(status), length=0, Location=place)

    def again(self, _: str) -> None:
        self.reply(302, length=0, Location="/again")

    def lost(self, _: str) -> None:
        self.reply(302, length=0)

    def silent(self, _: str) -> None:
        time.sleep(1.0)
        self.close_connection = True

    def dripping(self, _: str) -> None:
        self.reply(200, Connection="close")
        self.forever(0.02)

    def dripping_headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self.forever(0.02)

    def nonsense(self, _: str) -> None:
        self.wfile.write(b"SMTP ready\r\n\r\n")
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Site)
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connected = 0
        self.scheme = "http"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connected += 1
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Hanging up is not worth a word."""

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.server_address[0]!s}:{self.server_address[1]}/{path}"


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.asked.clear()
    shared_server.headers.clear()
    shared_server.connected = 0
    return shared_server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a.org/b.jpg", True),
        ("HTTPS://a.org", True),
        ("https:/a.org", False),
        ("ftp://a.org/b.jpg", False),
        ("file:///a.jpg", False),
        ("http.jpg", False),
        ("", False),
    ],
)
def test_what_is_an_address(text: str, expected: bool) -> None:
    assert is_url(text) is expected


# What is fetched


@pytest.mark.parametrize("path", ["image", "unsized", "chunked"])
def test_content_comes_whole(server: Server, path: str) -> None:
    assert local(server.url(path)) == CONTENT


def test_no_content(server: Server) -> None:
    assert local(server.url("nothing")) == b""


def test_what_the_server_is_asked(server: Server) -> None:
    local(server.url("image/a b/ä?size=large&x=%20#part"))
    assert server.asked == ["/image/a%20b/%C3%A4?size=large&x=%20"]
    (headers,) = server.headers
    port = server.server_address[1]
    assert headers == {
        "Host": f"127.0.0.1:{port}",
        "User-Agent": "protomask",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_the_shortest_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Site, "", Site.image, raising=False)
    assert local(server.url("").rstrip("/")) == CONTENT
    assert server.asked == ["/"]


def test_names_are_looked_up(server: Server) -> None:
    assert local(server.url("image").replace("127.0.0.1", "LOCALHOST")) == CONTENT


def test_proxies_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert local(server.url("image")) == CONTENT


# Private addresses


def test_private_addresses_are_refused_before_anything_is_connected_to(server: Server) -> None:
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1"):
        with pytest.raises(DataError, match=r"http.*: expected a public address, got (127\.0\.0\.1|::1)$"):
            fetch_url(server.url("image").replace("127.0.0.1", host))
    assert server.connected == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("64:ff9b::8.8.8.8", True),
        ("::ffff:8.8.8.8", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2001::1", False),
    ],
)
def test_which_addresses_are_public(monkeypatch: pytest.MonkeyPatch, address: str, public: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connected = []

    class Unconnectable(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address[0])
            raise ConnectionRefusedError("nobody there")

    found = [(family, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    monkeypatch.setattr(socket, "socket", Unconnectable)
    message = "cannot be fetched: nobody there" if public else "expected a public address, got "
    with pytest.raises(DataError, match=rf"^http://some\.name/: {message}"):
        fetch_url("http://some.name/")
    assert connected == [address] * public


def test_a_name_with_any_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("8.8.8.8", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(DataError, match=r"got 127\.0\.0\.1$"):
        fetch_url(f"http://some.name:{port}/image")
    assert server.connected == 0


def test_the_next_address_is_tried_where_one_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (1, port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    assert local("http://some.name/image") == CONTENT


@contextmanager
def only_public(address: str) -> Iterator[None]:
    """One of the machine's own addresses counts as public."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_is_public", lambda got: got == ipaddress.ip_address(address))
        yield


def test_redirects_to_private_addresses_are_refused(server: Server) -> None:
    inside = server.url("image").replace("127.0.0.1", "127.0.0.2")
    with only_public("127.0.0.1"):
        assert fetch_url(server.url("image")) == CONTENT
        with pytest.raises(DataError) as caught:
            fetch_url(server.url(f"moved?{inside}"))
    assert str(caught.value) == (
        f"{server.url(f'moved?{inside}')}, which leads to {inside}: expected a public address, got 127.0.0.2"
    )
    assert server.connected == 2


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["image", "/image", "//{host}/image", "http://{host}/image", "../image#part"])
def test_redirects_are_followed(server: Server, status: int, place: str) -> None:
    place = place.format(host=f"127.0.0.1:{server.server_address[1]}")
    assert local(server.url(f"see?{status}%20{place.replace('#', '%23')}")) == CONTENT
    assert server.asked[-1] == "/image"


def test_what_a_redirect_says_besides_is_not_read(server: Server) -> None:
    assert local(server.url(f"moved?{server.url('image')}")) == CONTENT


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,a", "gopher://127.0.0.1/", "javascript:1"]
)
def test_redirects_to_other_kinds_of_addresses_are_refused(server: Server, place: str) -> None:
    with pytest.raises(
        DataError, match=r", which leads to .*: expected an address that begins with http:// or https://$"
    ):
        local(server.url(f"see?302%20{place}"))


def test_redirects_come_to_an_end(server: Server) -> None:
    with pytest.raises(DataError, match=f"expected at most {MAX_REDIRECTS} redirects, got more"):
        local(server.url("again"))
    assert len(server.asked) == MAX_REDIRECTS + 1


def test_a_redirect_to_nowhere_is_an_answer(server: Server) -> None:
    with pytest.raises(DataError, match=r"/lost: the server answered 302 Found$"):
        local(server.url("lost"))


# Limits


@pytest.mark.parametrize("path", ["image", "unsized", "chunked"])
def test_larger_answers_are_refused(server: Server, path: str) -> None:
    assert local(server.url(path), max_bytes=len(CONTENT)) == CONTENT
    with pytest.raises(DataError, match=rf"/{path}: expected at most 1023 bytes, got (1024|more)$"):
        local(server.url(path), max_bytes=len(CONTENT) - 1)


def test_what_never_ends_is_refused(server: Server) -> None:
    with pytest.raises(DataError, match="expected at most 100000 bytes, got more"):
        local(server.url("endless"), max_bytes=100_000)


def test_silence_ends(server: Server) -> None:
    with pytest.raises(DataError, match=r"/silent: cannot be fetched: .*timed out"):
        fetch_url(server.url("silent"), allow_private=True, timeout=0.05)


@pytest.mark.parametrize("path", ["dripping", "dripping_headers"])
def test_dripping_ends(server: Server, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match=f"/{path}: cannot be fetched: (it takes too long|timed out)"):
        local(server.url(path), max_seconds=0.3)
    assert time.monotonic() - start < 3


# What goes wrong


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("error?404", "the server answered 404 Not Found"),
        ("error?500", "the server answered 500 Internal Server Error"),
        ("error?304", "the server answered 304 Not Modified"),
        ("error?599", "the server answered 599"),  # never in the server's own words
        ("short", "the connection broke off, 990 bytes are missing"),
        ("nonsense", "cannot be fetched: SMTP ready"),
    ],
)
def test_bad_answers(server: Server, path: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        local(server.url(path))
    assert str(caught.value).strip() == f"{server.url(path)}: {message}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "expected an address that begins with http:// or https://"),
        ("ftp://127.0.0.1/a.jpg", "expected an address that begins with http:// or https://"),
        ("photo.jpg", "expected an address that begins with http:// or https://"),
        ("http://", "expected an address that begins with http:// or https://"),
        ("http:///a.jpg", "expected an address that begins with http:// or https://"),
        ("http://127.0.0.1:99999/", "cannot be fetched: Port out of range"),
        ("http://127.0.0.1:port/", "cannot be fetched: Port could not be cast"),
        ("http://[::1/", "cannot be fetched: Invalid IPv6 URL"),
        ("http://127.0.0.1:1/", "cannot be fetched: .*refused"),
        (f"http://{'a' * 64}.org/", "cannot be fetched: "),
    ],
)
def test_addresses_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(DataError, match=f": {message}") as caught:
        local(url)
    assert str(caught.value).startswith(url)


# HTTPS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate by openssl")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server()
    server.scheme = "https"
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        with pytest.raises(DataError, match=r"cannot be fetched: .*certificate verify failed"):
            local(server.url("image"))
        with pytest.raises(DataError, match=r"expected a public address, got 127\.0\.0\.1"):
            fetch_url(server.url("image"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert local(server.url("image")) == CONTENT
        assert local(server.url("chunked")) == CONTENT
        with pytest.raises(DataError, match="the connection broke off, 990 bytes are missing"):
            local(server.url("short"))
        with pytest.raises(DataError, match=r"it takes too long|timed out"):
            local(server.url("dripping"), max_seconds=0.3)
        with pytest.raises(DataError, match=r"cannot be fetched: .*Hostname mismatch"):
            local(server.url("image").replace("127.0.0.1", "localhost"))
    assert server.headers[0]["Host"] == f"127.0.0.1:{server.server_address[1]}"


def test_what_speaks_no_tls_is_an_error(server: Server) -> None:
    with pytest.raises(DataError, match=r"^https://.*: cannot be fetched: "):
        local(server.url("image").replace("http:", "https:"))
