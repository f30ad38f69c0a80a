"""What stands around requests: limits of bodies, the key, the log, errors, and the operation of a server."""

from __future__ import annotations

import base64
import json

import pytest
from starlette.testclient import TestClient

from protomask.serve.app import create_app
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from serve.conftest import Start, image, wait_until
from serve.fake_model import DEADLY, SLOW

PNG = {"content-type": "image/png"}


def test_large_bodies_are_refused_with_and_without_their_length(start: Start) -> None:
    client = start(max_body=0.001)
    whole = client.post("/v1/predict", content=b"x" * 2000, headers=PNG)
    parts = client.post("/v1/predict", content=(b"x" * 100 for _ in range(20)), headers=PNG)
    for answer in (whole, parts):
        assert (answer.status_code, answer.json()["field"]) == (413, "body")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic secret"}, 401),
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "Basic " + base64.b64encode(b"anybody:secret").decode()}, 200),
        ({"authorization": "Basic " + base64.b64encode(b"secret:wrong").decode()}, 401),
        ({"authorization": "Basic *"}, 401),
        ({"x-api-key": "secret"}, 200),
    ],
)
def test_a_key_is_asked_for(start: Start, headers: dict[str, str], status: int) -> None:
    client = start(key="secret")
    for path in ("/v1/models", "/metrics"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
    assert client.post("/v1/predict", content=image(), headers={**PNG, **headers}).status_code == status
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    for answer, status in ((client.get("/v1/nothing"), 404), (client.get("/v1/predict"), 405)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_too_many_images_get_a_time_to_try_again(start: Start) -> None:
    client = start(max_waiting=1, max_images=2)
    parts = [("image", (f"{n}.png", image(), "image/png")) for n in range(2)]
    answer = client.post("/v1/predict", files=parts)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_an_answer_that_takes_too_long_is_given_up(start: Start) -> None:
    client = start(timeout=0.2)
    answer = client.post("/v1/predict", content=image(SLOW), headers=PNG)
    assert answer.status_code == 503
    assert "within 0.2 s" in answer.json()["detail"]


def test_readiness_says_when_a_worker_is_missing(start: Start) -> None:
    client = start()
    assert client.get("/readyz").json()["models"]["one"] == {"ready": 1, "workers": 1}
    assert client.post("/v1/predict", content=image(DEADLY), headers=PNG).status_code == 503
    wait_until(lambda: client.get("/readyz").status_code == 200)
    text = client.get("/metrics").text
    assert 'protomask_worker_restarts_total{model="one"} 2.0' in text


def test_metrics_count_requests_images_and_batches(start: Start) -> None:
    client = start()
    client.post("/v1/predict", content=image(), headers=PNG)
    client.get("/no/such/path")
    lines = client.get("/metrics").text.splitlines()
    assert 'protomask_requests_total{path="/v1/predict",status="200"} 1.0' in lines
    assert 'protomask_images_total{model="one"} 1.0' in lines
    assert 'protomask_ready_workers{model="two"} 1.0' in lines
    assert not any("no/such" in line for line in lines)


def test_models_and_their_reload(start: Start) -> None:
    client = start(key="secret")
    key = {"x-api-key": "secret"}
    models = client.get("/v1/models", headers=key).json()["models"]
    assert [model["name"] for model in models] == ["one", "two"]
    assert models[0]["class_names"] == ["square", "none"]
    assert client.post("/v1/models/two/reload", headers=key).status_code == 200
    assert client.post("/v1/models/three/reload", headers=key).status_code == 404


def test_without_a_key_nobody_reloads(client: TestClient) -> None:
    assert client.post("/v1/models/one/reload").status_code == 403


def test_the_log_has_one_json_line_per_request_and_no_content(capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(create_app({}, ServeOptions(), metrics=Metrics())) as client:
        client.get("/healthz?token=secret")
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/healthz", 200)
    assert "secret" not in line
    assert entry["bytes_out"] > 0


def test_pages_of_other_origins_need_to_be_allowed(start: Start) -> None:
    asks = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in start().options("/v1/predict", headers=asks).headers
    allowed = start(cors_origins=("https://a.example",)).options("/v1/predict", headers=asks)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
