"""What the server costs beside the bare predictor, and what it does when there is too much: one run, one machine.

    uv run --extra dev python benchmarks/serve_load.py                        a minute for each part
    uv run --extra dev python benchmarks/serve_load.py --saturated 600        ten minutes at saturation

Parts, in turn: the bare predictor (bytes of a JPEG to the JSON text, one after another), before and after all else,
since machines drift; the server with enough clients to keep it busy (each answer is compared with the expected one, and
its memory is looked at twenty times); half of that rate (latencies); ten times that rate (429s, and the latency of who
is accepted). Clients are a process of their own on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from measuring import positive
from protomask.api import load
from protomask.runtimes.shipped import SAMPLES
from protomask.serve.answers import as_json

SCENES = sorted(SAMPLES.glob("*.jpg"))


class Reply(NamedTuple):
    """One request: which image, the status, and when it began and ended."""

    image: int
    status: int
    right: bool
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=positive, default=20, help="of each part but the saturated one")
    parser.add_argument("--saturated", type=positive, default=60, help="seconds at saturation")
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--model", default="yolact_nano")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    images = [jpeg(path, (640, 480)) for path in SCENES]
    before, wanted = bare(arguments.model, images, arguments.seconds)
    told: dict[str, Any] = {}
    command = [
        sys.executable, "-m", "protomask", "serve", arguments.model, "--port", "0",
        "--workers", str(arguments.workers),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            port = int(re.findall(r":(\d+)$", server.stderr.readline().strip())[0])
            replies = (port, images, wanted)
            warm = drive(*replies, clients=4, seconds=3)
            assert all(reply.right for reply in warm), "wrong answers"
            with looking_at_memory(server.pid, arguments.saturated / 20) as seen:
                saturated = drive(*replies, clients=8, seconds=arguments.saturated)
            told["saturated"] = about(saturated, arguments.saturated)
            told["memory_mb"] = seen
            rate = told["saturated"]["per_second"]
            for part, share in (("half_load", 0.5), ("overload", 10)):
                found = drive(*replies, per_second=share * rate, seconds=arguments.seconds)
                told[part] = about(found, arguments.seconds)
            again = drive(*replies, clients=2, seconds=3)
            assert all(reply.status == 200 and reply.right for reply in again), "the server did not recover"
        finally:
            server.terminate()
    after, _ = bare(arguments.model, images, arguments.seconds)
    told["bare_per_second"] = [round(before, 2), round(after, 2)]
    told["share_of_bare"] = round(2 * rate / (before + after), 3)
    print(json.dumps(told, indent=2) if arguments.json else text(told))


def jpeg(path: Path, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.open(path).convert("RGB").resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()


def bare(model: str, images: list[bytes], seconds: float) -> tuple[float, list[Any]]:
    """Images per second of the predictor alone, and what it finds."""
    predictor = load(model)
    wanted = [as_json(predictor.predict(image), "image", "rle")["instances"] for image in images]
    count, start = 0, perf_counter()
    while perf_counter() - start < seconds:
        json.dumps(as_json(predictor.predict(images[count % len(images)]), "image", "rle"))
        count += 1
    return count / (perf_counter() - start), wanted


def drive(port: int, images: list[bytes], wanted: list[Any], **how: Any) -> list[Reply]:
    """Ask from another process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_drive, (port, images, wanted), how)


def _drive(
    port: int, images: list[bytes], wanted: list[Any], *, seconds: float, clients: int = 0, per_second: float = 0
) -> list[Reply]:
    replies: list[Reply] = []
    known: dict[tuple[int, bytes], bool] = {}  # answers that came before need not be parsed again

    async def ask_until(end: float, first: int) -> None:
        connection, index = None, first
        while monotonic() < end:
            connection, reply = await ask(port, connection, index % len(images), images, wanted, known)
            replies.append(reply)
            if reply.status == 429:
                await asyncio.sleep(0.05)
            index += 1

    async def at_rate() -> None:
        asking, start = [], monotonic()
        for index in range(round(seconds * per_second)):
            await asyncio.sleep(max(0.0, start + index / per_second - monotonic()))
            asking.append(asyncio.create_task(once(index % len(images))))
        replies.extend(await asyncio.gather(*asking))

    async def once(image: int) -> Reply:
        connection, reply = await ask(port, None, image, images, wanted, known)
        if connection is not None:
            connection[1].close()
        return reply

    async def with_clients() -> None:
        end = monotonic() + seconds
        await asyncio.gather(*(ask_until(end, first) for first in range(clients)))

    asyncio.run(with_clients() if clients else at_rate())
    return replies


async def ask(
    port: int, connection: Any, index: int, images: list[bytes], wanted: list[Any], known: dict[tuple[int, bytes], bool]
) -> tuple[Any, Reply]:
    """One request; status 0 where the connection was lost."""
    start = perf_counter()
    try:
        reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
        head = ("POST /v1/predict HTTP/1.1", "Host: a", "Content-Type: image/jpeg")
        writer.write("\r\n".join([*head, f"Content-Length: {len(images[index])}", "", ""]).encode() + images[index])
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
    except (OSError, asyncio.IncompleteReadError):
        return None, Reply(index, 0, False, perf_counter() - start)
    seconds = perf_counter() - start
    if status == 200 and (index, body) not in known:
        known[index, body] = is_right(json.loads(body)["images"][0]["instances"], wanted[index])
    return (reader, writer), Reply(index, status, status != 200 or known[index, body], seconds)


def is_right(found: list[Any], wanted: list[Any]) -> bool:
    """The same instances with the same masks; numbers may differ by what the size of a batch changes."""
    numbers = ("score", "class_score", "mask_score", "box")
    if len(found) != len(wanted):
        return False
    return all(
        one.keys() == other.keys()
        and all(one[name] == other[name] for name in one.keys() - set(numbers))
        and all(one[name] == other[name] or np.allclose(one[name], other[name], atol=1e-4) for name in numbers)
        for one, other in zip(found, wanted, strict=True)
    )


def about(replies: list[Reply], seconds: float) -> dict[str, Any]:
    times = [reply.seconds * 1000 for reply in replies if reply.status == 200 and reply.right]
    return {
        "per_second": round(len(times) / seconds, 2),
        "answers": dict(Counter(reply.status for reply in replies)),
        "lost": sum(reply.status == 0 for reply in replies),
        "wrong": sum(not reply.right for reply in replies),
        "p50_p95_p99_ms": [round(float(np.percentile(times, share))) for share in (50, 95, 99)] if times else [],
    }


@contextmanager
def looking_at_memory(pid: int, every: float) -> Iterator[list[int]]:
    """Megabytes of a process and its children, again and again while the block runs."""
    seen, over = [round(memory(pid))], Event()

    def look() -> None:
        while not over.wait(every):
            seen.append(round(memory(pid)))

    looking = Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def memory(pid: int) -> float:
    """Resident memory of a process and its children, megabytes."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in [pid, *map(int, children)])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def text(told: dict[str, Any]) -> str:
    rows = [f"bare predictor before and after: {told['bare_per_second']} images/s; share: {told['share_of_bare']}"]
    for part in ("saturated", "half_load", "overload"):
        rows.append(f"{part}: " + ", ".join(f"{name} {value}" for name, value in told[part].items()))
    return "\n".join([*rows, f"memory of the server during saturation: {told['memory_mb']} MB"])


if __name__ == "__main__":
    main()
