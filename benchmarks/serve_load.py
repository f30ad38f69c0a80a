"""What the server costs beside the bare predictor, and what it does when there is too much: one run, one machine.

    uv run --extra dev python benchmarks/serve_load.py                        a minute for each part
    uv run --extra dev python benchmarks/serve_load.py --saturated 600        ten minutes at saturation

Parts, in turn: the bare predictor (bytes of a JPEG to the JSON text, one after another); the server with enough clients
to keep it busy (each answer is compared with the expected one); half of that rate (latencies); ten times as many
clients as may wait (429s, and the latency of who is accepted). Clients are a process of their own on the same cores.
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
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from measuring import positive
from protomask.api import load
from protomask.serve.answers import as_json

ROOT = Path(__file__).resolve().parents[1]
SCENES = sorted((ROOT / "src/protomask/samples").glob("*.jpg"))


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
    rate, wanted = bare(arguments.model, images, arguments.seconds)
    told: dict[str, Any] = {"bare_per_second": round(rate, 2)}
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
            before = memory(server.pid)
            saturated = drive(*replies, clients=8, seconds=arguments.saturated)
            told["saturated"] = about(saturated, arguments.saturated)
            told["saturated"]["share_of_bare"] = round(len(saturated) / arguments.saturated / rate, 3)
            told["memory_mb"] = [round(before), round(memory(server.pid))]
            half = len(saturated) / arguments.saturated / 2
            told["half_load"] = about(drive(*replies, per_second=half, seconds=arguments.seconds), arguments.seconds)
            told["overload"] = about(drive(*replies, clients=640, seconds=arguments.seconds), arguments.seconds)
            again = drive(*replies, clients=2, seconds=3)
            assert all(reply.status == 200 and reply.right for reply in again), "the server did not recover"
        finally:
            server.terminate()
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

    async def ask_until(end: float, first: int) -> None:
        connection, index = None, first
        while monotonic() < end:
            connection, reply = await ask(port, connection, index % len(images), images, wanted)
            replies.append(reply)
            if reply.status == 429:
                await asyncio.sleep(0.05)
            index += 1

    async def at_rate() -> None:
        asking, start = [], monotonic()
        for index in range(round(seconds * per_second)):
            await asyncio.sleep(max(0.0, start + index / per_second - monotonic()))
            asking.append(asyncio.create_task(ask(port, None, index % len(images), images, wanted)))
        replies.extend(reply for _, reply in await asyncio.gather(*asking))

    async def with_clients() -> None:
        end = monotonic() + seconds
        await asyncio.gather(*(ask_until(end, first) for first in range(clients)))

    asyncio.run(with_clients() if clients else at_rate())
    return replies


async def ask(port: int, connection: Any, index: int, images: list[bytes], wanted: list[Any]) -> tuple[Any, Reply]:
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
    right = status != 200 or json.loads(body)["images"][0]["instances"] == wanted[index]
    return (reader, writer), Reply(index, status, right, seconds)


def about(replies: list[Reply], seconds: float) -> dict[str, Any]:
    times = [reply.seconds * 1000 for reply in replies if reply.status == 200]
    return {
        "per_second": round(len(times) / seconds, 2),
        "answers": dict(Counter(reply.status for reply in replies)),
        "wrong": sum(not reply.right for reply in replies),
        "p50_p95_p99_ms": [round(float(np.percentile(times, share))) for share in (50, 95, 99)] if times else [],
    }


def memory(pid: int) -> float:
    """Resident memory of a process and its children, megabytes."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in [pid, *map(int, children)])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def text(told: dict[str, Any]) -> str:
    rows = [f"bare predictor: {told['bare_per_second']} images/s"]
    for part in ("saturated", "half_load", "overload"):
        rows.append(f"{part}: " + ", ".join(f"{name} {value}" for name, value in told[part].items()))
    return "\n".join([*rows, f"memory of the server before and after saturation: {told['memory_mb']} MB"])


if __name__ == "__main__":
    main()
