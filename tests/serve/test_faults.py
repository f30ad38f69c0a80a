"""Clients that are slow, leave, lie or send what is not an image: nobody else notices, and nothing is left behind."""

from __future__ import annotations

import gc
import io
import json
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")

from protomask.serve.pool import ModelPool
from serve.conftest import image, wait_until
from serve.fake_model import SLOW
from serve.raw_http import Running, ask, connect, files_open, head, is_closed, read_answer, running

PNG_START = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that loses its patience soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protomask.serve.connections.LINGER", 0.5)
        with running(head_timeout=0.5, body_timeout=0.5, max_body=0.5) as started:
            yield started


def is_well(server: Running) -> bool:
    status, answer = ask(server.port, image(5))
    return status == 200 and answer["images"][0]["instances"][0]["box"] == [0, 0, 5, 5]


def is_cut_off(client: socket.socket, parts: Iterable[bytes], pause: float = 0.0) -> bool:
    """Whether the server ends the connection while it is sent all this."""
    try:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
    except ConnectionError:
        return True
    return False


# Slow clients


@pytest.mark.parametrize("sent", [b"", b"POST /v1/predict HTTP/1.1\r\nHost: a\r\n", b"G"])
def test_a_head_that_does_not_come_ends_the_connection(server: Running, sent: bytes) -> None:
    with connect(server.port) as client:
        client.sendall(sent)
        assert is_closed(client, 10)


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(server: Running) -> None:
    with connect(server.port) as client:
        started = time.monotonic()
        whole = head(5, more="".join(f"X-{n}: y\r\n" for n in range(100)))
        assert is_cut_off(client, (bytes([byte]) for byte in whole), 0.02)
        assert 0.4 < time.monotonic() - started < 10


def test_the_second_head_on_a_connection_has_its_time_too(server: Running) -> None:
    with connect(server.port) as client:
        for _ in range(2):
            client.sendall(head(len(image())) + image())
            assert read_answer(client)[0] == 200
        client.sendall(b"GET /healthz HTT")
        assert is_closed(client, 10)


def test_a_slow_answer_is_not_taken_for_a_slow_head(server: Running) -> None:
    assert ask(server.port, image(SLOW))[0] == 200


@pytest.mark.parametrize("length", [1000, None])
def test_a_body_that_comes_slowly_is_given_up(server: Running, length: int | None) -> None:
    with connect(server.port) as client:
        client.sendall(head(length))
        assert read_answer(client)[0] == 408
        assert is_closed(client, 7)


def test_a_chunked_body_without_end_is_given_up(server: Running) -> None:
    with connect(server.port) as client:
        client.sendall(head(None))
        piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
        assert is_cut_off(client, [piece] * 10_000)
    assert is_well(server)


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(server: Running) -> None:
    with connect(server.port) as client:
        client.sendall(head(None, kind="text/plain"))
        assert read_answer(client)[0] == 415
        assert is_cut_off(client, [b"1\r\nx\r\n"] * 100, 0.02)


def test_who_sends_too_much_can_read_that_it_was_too_much(server: Running) -> None:
    for _ in range(5):
        with connect(server.port) as client:
            client.sendall(head(4_000_000) + bytes(4_000_000))
            assert read_answer(client)[0] == 413


def test_where_every_queue_is_full_no_body_is_read(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelPool, "waiting", property(lambda pool: server.options.max_waiting))
    with connect(server.port) as client:
        client.sendall(head(1000))
        status, problem = read_answer(client)
    assert (status, problem["detail"]) == (429, "64 images wait")


def test_bodies_that_are_too_large_together_are_refused(server: Running) -> None:
    clients = [connect(server.port) for _ in range(40)]
    for client in clients:
        client.sendall(head(400_000) + bytes(300_000))
    statuses = [read_answer(client)[0] for client in clients]
    assert set(statuses) == {408, 429}
    assert 20 <= statuses.count(408) <= 28  # of 16 times half a megabyte
    for client in clients:
        client.close()
    wait_until(lambda: server.requests == 0)
    assert is_well(server)


def test_many_slow_clients_hold_up_nobody(server: Running) -> None:
    clients = [connect(server.port) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(head(400_000) + b"x" if number % 2 else b"POST /v1/predict HTTP/1.1\r\nX: ")
    started = time.monotonic()
    assert all(is_well(server) for _ in range(20))
    assert time.monotonic() - started < 15
    wait_until(lambda: server.connections == 0)
    for client in clients:
        client.close()


def test_an_answer_that_nobody_reads_ends_the_connection(server: Running) -> None:
    with connect(server.port) as client:
        assert is_cut_off(client, [b"GET /samples/scene_1.jpg HTTP/1.1\r\nHost: a\r\n\r\n"] * 2000, 0.005)
    wait_until(lambda: server.connections == 0)
    assert is_well(server)


def test_a_camera_may_be_silent_for_longer_than_a_head_may_take(server: Running) -> None:
    from websockets.sync.client import connect as open_socket

    with open_socket(f"ws://127.0.0.1:{server.port}/v1/live?track=0") as socket:
        for red in (4, 6):
            time.sleep(0.8)
            socket.send(image(red))
            assert json.loads(socket.recv(5))["instances"][0]["box"] == [0, 0, red, red]


# Clients that leave


def test_clients_that_leave_within_their_body_leave_nothing(server: Running) -> None:
    assert is_well(server)
    before, computed = files_open(), server.counted("protomask_images_total")
    for number in range(100):
        with connect(server.port) as client:
            client.sendall(head(300_000) + b"x" * (number * 1000))
    wait_until(lambda: server.connections == server.requests == 0)
    assert server.counted("protomask_images_total") == computed
    wait_until(lambda: files_open() <= before)


def test_clients_that_leave_within_their_answer_leave_nothing(server: Running) -> None:
    wait_until(lambda: server.connections == 0)
    before = files_open()
    for _ in range(50):
        with connect(server.port) as client:
            client.sendall(b"GET /samples/scene_1.jpg HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
            client.recv(1000)
    wait_until(lambda: server.connections == server.requests == 0)
    wait_until(lambda: files_open() <= before)
    assert is_well(server)


def test_clients_that_leave_before_their_answer_are_not_computed(server: Running) -> None:
    wait_until(lambda: server.connections == 0)
    before, computed = files_open(), server.counted("protomask_images_total")
    for _ in range(30):
        with connect(server.port) as client:
            client.sendall(head(len(image(SLOW))) + image(SLOW))
    wait_until(lambda: server.connections == server.requests == server.pool.waiting == 0)
    assert is_well(server)
    assert server.counted("protomask_images_total") - computed < 12  # what had begun
    wait_until(lambda: files_open() <= before)


# Files that lie


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, *extra: bytes) -> bytes:
    top = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG_START + top + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def frames(count: int, side: int) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.fromarray(np.full((side, side), n % 255, dtype=np.uint8)) for n in range(count)]
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


BOMBS = {
    "claims 50,000 x 50,000": (png(50_000, 50_000, zeros(1000)), 422),
    "is 50,000 x 50,000": (png(50_000, 50_000, zeros(50_000_000)), 422),
    "more rows than it says": (png(100, 100, zeros(100_000_000)), 200),
    "a large text": (png(64, 64, zeros(64 * 65), chunk(b"zTXt", b"a\0\0" + zeros(200_000_000))), 422),
    "a large profile": (png(64, 64, zeros(64 * 65), chunk(b"iCCP", b"a\0\0" + zeros(200_000_000))), 422),
    "many frames": (frames(2000, 64), 200),
    "a bitmap of 2 GB": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, *[0] * 6), 422),
    "a portable map of 40,000 x 40,000": (b"P6 40000 40000 255\n" + bytes(100), 422),
}


def memory_of_workers(server: Running) -> float:
    """Resident, megabytes."""
    pages = 0
    for worker in server.pool._workers:
        pages += int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_grow(server: Running, name: str) -> None:
    content, status = BOMBS[name]
    before = memory_of_workers(server)
    started = time.monotonic()
    found, answer = ask(server.port, content, "application/octet-stream")
    assert found == status, answer
    assert time.monotonic() - started < 10
    assert memory_of_workers(server) - before < 80
    assert server.counted("protomask_worker_restarts_total") == 0


@pytest.mark.slow
def test_a_thousand_broken_images_are_each_refused_and_memory_stays(server: Running) -> None:
    whole = [_saved(form) for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    chance = random.Random(0)
    statuses = []
    for number in range(1200):
        content = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 30)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        status, answer = ask(server.port, bytes(content[: chance.randrange(10, len(content))]), "image/png")
        statuses.append(status)
        assert status in (200, 422), answer
        if number == 200:
            gc.collect()
            before = memory_of_workers(server)
    assert statuses.count(422) >= 1000
    assert memory_of_workers(server) - before < 20
    assert server.counted("protomask_worker_restarts_total") == 0
    assert is_well(server)


def _saved(form: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


# Workers that die


@pytest.mark.slow
def test_under_load_the_death_of_workers_loses_no_answer_and_gives_no_wrong_one() -> None:
    statuses: list[int] = []
    wrong: list[int] = []

    def drive(first: int) -> None:
        red = 3 + first
        while time.monotonic() < end:
            status, answer = ask(server.port, image(red))
            statuses.append(status)
            if status == 200 and answer["images"][0]["instances"][0]["box"] != [0, 0, red, red]:
                wrong.append(red)

    with running(workers=2) as server:
        end = time.monotonic() + 8
        threads = [threading.Thread(target=drive, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(1.5)
            server.pool._workers[0].process.kill()
        for thread in threads:
            thread.join()
        assert server.counted("protomask_worker_restarts_total") == 3
        wait_until(lambda: server.pool.ready_workers == 2)
    assert wrong == []
    assert set(statuses) == {200}
    assert len(statuses) > 100
