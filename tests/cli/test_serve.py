"""`protomask serve` as a process: it starts, answers, loads again and ends in order."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest

from protomask.cli.serve import name_models, run
from protomask.errors import ConfigError
from protomask.serve.options import ServeOptions
from server_process import Server

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

SCENE = Path(str(files("protomask"))) / "samples" / "scene_1.jpg"


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server("yolact_nano", "nuclei", "--threads", "1")
    yield started
    started.end()


def ask(server: Server, images: int = 1) -> list[int]:
    """Send a scene so many times in one request; the number of instances found in each."""
    sent = [("images", (f"{number}.jpg", SCENE.read_bytes(), "image/jpeg")) for number in range(images)]
    answer = httpx.post(f"{server.address}/v1/predict", files=sent, timeout=60).raise_for_status()
    return [len(image["instances"]) for image in answer.json()["images"]]


def waiting_images(server: Server) -> float:
    sample = re.search(r'^protomask_waiting_images\{model="yolact_nano"\} (\S+)$', metrics(server), re.MULTILINE)
    assert sample
    return float(sample[1])


def metrics(server: Server) -> str:
    return str(httpx.get(f"{server.address}/metrics").text)


def test_it_answers_loads_again_and_ends_in_order(server: Server) -> None:
    [found] = ask(server)
    assert found > 3
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("nuclei was loaded again")
    assert ask(server) == [found]
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, server, 16)
        while waiting_images(server) == 0:
            assert not answer.done()
        server.process.send_signal(signal.SIGTERM)
        assert answer.result() == [found] * 16  # what has been accepted is answered
    assert server.process.wait(30) == 0


def test_a_port_in_use_is_one_line(server: Server) -> None:
    port = server.address.rpartition(":")[2]
    command = [sys.executable, "-m", "protomask", "serve", "yolact_nano", "--port", port]
    other = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert other.returncode == 1
    assert f"protomask serve: 127.0.0.1:{port} cannot be listened on" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["yolact_nano", "runs/a/best.safetensors"], ["yolact_nano", "best"]),
        (["models/v1.2/street.onnx", "runs/a"], ["street", "a"]),
    ],
)
def test_models_are_named_after_their_files(sources: list[str], names: list[str]) -> None:
    assert list(name_models(sources)) == names


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"models: .* got best twice: a/best\.onnx and b/best\.onnx"):
        name_models(["a/best.onnx", "b/best.onnx"])


def test_an_address_of_label_studio_has_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "localhost:8080")
    with pytest.raises(ConfigError, match="LABEL_STUDIO_URL: expected an http or https address, got 'localhost:8080'"):
        run(["yolact_nano"], options=ServeOptions(label_studio=True), port=0)
