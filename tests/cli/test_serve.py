"""`protomask serve` as a process: it starts, answers, loads again and ends in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
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
    started.process.kill()
    started.process.wait()


def test_it_answers_loads_again_and_ends_in_order(server: Server) -> None:
    content = SCENE.read_bytes()

    def ask() -> int:
        answer = httpx.post(f"{server.address}/v1/predict", content=content, headers={"content-type": "image/jpeg"})
        return len(answer.json()["images"][0]["instances"])

    found = ask()
    assert found > 3
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("nuclei was loaded again")
    assert ask() == found
    answers: list[int] = []
    asking = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(6)]
    for thread in asking:
        thread.start()
    while httpx.get(f"{server.address}/metrics").text.count('model="yolact_nano"} 0') > 5:
        pass
    server.process.send_signal(signal.SIGTERM)
    for thread in asking:
        thread.join()
    assert server.process.wait(30) == 0
    assert answers.count(found) == len(answers)


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
