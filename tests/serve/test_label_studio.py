"""A machine learning backend of Label Studio: requests as its documentation and its code have them."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from protomask.masks.brush import decode_brush
from protomask.serve.app import create_app
from protomask.serve.label_studio_host import LabelStudioHost
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool
from serve.conftest import image
from serve.fake_model import load

CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="tag" toName="image"><Label value="Square" background="#f00"/><Label value="Moon"/></BrushLabels>
  <PolygonLabels name="outline" toName="image"><Label value="square"/></PolygonLabels>
  <RectangleLabels name="box" toName="image"><Label value="square"/></RectangleLabels>
</View>"""
KEY = "abc123"
PERSONAL_KEY = "head.body.sign"


class Studio:
    """A Label Studio that has images; what it was asked is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        files = {"/data/upload/3/a%20b.png": image(7), "/tasks/5/presign/?fileuri=" + _code("s3://b/c.png"): image(9)}
        studio = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                studio.asked.append((self.path, self.headers.get("Authorization")))
                if self.path == "/slow":
                    time.sleep(2.5)
                if self.path == "/away":
                    self._answer(302, b"", Location="http://127.0.0.1:1/a.png")
                elif self.path in files:
                    self._answer(200, files[self.path])
                else:
                    self._answer(404, b"")

            def do_POST(self) -> None:
                given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                studio.asked.append((self.path, given.get("refresh")))
                self._answer(200, b'{"access": "short"}')

            def _answer(self, status: int, content: bytes, **headers: str) -> None:
                with suppress(ConnectionError):  # who asked for /slow has gone
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def _code(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    started = Studio()
    yield started
    started.server.shutdown()


Begin = Callable[..., TestClient]


@pytest.fixture(scope="module")
def begin(studio: Studio) -> Iterator[Begin]:
    """Start a server that knows the Label Studio: begin(key=..., host=..., **options)."""
    opened: dict[Any, TestClient] = {}

    def start(*, key: str = KEY, host: bool = True, **options: Any) -> TestClient:
        name = (key, host, *options.items())
        if name not in opened:
            settings, metrics = ServeOptions(label_studio=True, **options), Metrics()
            pools = {one: ModelPool(one, one, load, settings, metrics) for one in ("one", "two")}
            known = LabelStudioHost(studio.url, key) if host else None
            client = TestClient(create_app(pools, settings, metrics=metrics, label_studio=known, log=False))
            client.__enter__()
            opened[name] = client
        return opened[name]

    yield start
    for client in opened.values():
        client.__exit__(None, None, None)


def request(*images: Any, project: str = "3.1700000000", config: str = CONFIG) -> dict[str, Any]:
    """What Label Studio posts to /predict."""
    tasks: list[dict[str, Any]] = [
        {
            "id": 5 + index, "data": {"image": one}, "meta": {}, "created_at": "2024-01-01T00:00:00.000000Z",
            "updated_at": "2024-01-01T00:00:00.000000Z", "is_labeled": False, "overlap": 1, "inner_id": index + 1,
            "total_annotations": 0, "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0,
            "unresolved_comment_count": 0, "last_comment_updated_at": None, "project": 3, "updated_by": None,
            "file_upload": 8, "comment_authors": [], "annotations": [], "predictions": [],
        }
        for index, one in enumerate(images)
    ]  # fmt: skip
    params = {"login": None, "password": None, "context": None}
    return {"tasks": tasks, "model_version": "one", "project": project, "label_config": config, "params": params}


def setup(client: TestClient, project: str = "3.1700000000", config: str = CONFIG, **more: Any) -> Any:
    """What Label Studio posts to /setup."""
    content = {"project": project, "schema": config, "hostname": "http://localhost:8080", "access_token": KEY, **more}
    return client.post("/setup", json=content)


def data_address(red: int = 5) -> str:
    return "data:image/png;base64," + base64.b64encode(image(red)).decode()


def only_region(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["results"]
    (region,) = prediction["result"]
    return dict(region)


def test_it_is_healthy_and_names_its_versions(begin: Begin) -> None:
    client = begin()
    assert client.get("/health").json()["status"] == "UP"
    assert client.get("/versions").json() == {"versions": ["one", "two"]}


def test_setup_says_what_is_labelled_and_what_is_not(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    answer = setup(begin())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "model_version": "one", "from_name": "tag", "type": "brushlabels", "labels": ["Square"],
        "unknown_labels": ["Moon"],
    }  # fmt: skip
    assert "one has no class of the labels Moon" in capsys.readouterr().err


def test_uploaded_images_are_fetched_from_label_studio_and_answered_with_brushes(begin: Begin, studio: Studio) -> None:
    region = only_region(begin().post("/predict", json=request("/data/upload/3/a b.png")))
    assert studio.asked[-1] == ("/data/upload/3/a%20b.png", f"Token {KEY}")
    size = (region["original_height"], region["original_width"])
    assert size == (24, 32)
    expected = {"from_name": "tag", "to_name": "image", "type": "brushlabels", "score": 0.75, "image_rotation": 0}
    assert {name: region[name] for name in expected} == expected
    value = region["value"]
    assert (value["format"], value["brushlabels"]) == ("rle", ["Square"])
    mask = decode_brush(value["rle"], size[0] * size[1]).reshape(size)
    assert mask[:7, :7].all()
    assert mask.sum() == 49


def test_the_version_and_the_least_score_stand_with_each_prediction(begin: Begin) -> None:
    answer = begin().post("/predict", json=request(data_address(3), data_address(4))).json()
    assert [(one["model_version"], one["score"]) for one in answer["results"]] == [("one", 0.75)] * 2


def test_images_in_cloud_storage_are_fetched_through_label_studio(begin: Begin, studio: Studio) -> None:
    only_region(begin().post("/predict", json=request("s3://b/c.png")))
    assert studio.asked[-1][0].startswith("/tasks/5/presign/?fileuri=")


def test_personal_access_tokens_are_exchanged_once(begin: Begin, studio: Studio) -> None:
    client = begin(key=PERSONAL_KEY)
    before = len(studio.asked)
    for _ in range(2):
        only_region(client.post("/predict", json=request("/data/upload/3/a b.png")))
    refresh, *fetched = studio.asked[before:]
    assert refresh == ("/api/token/refresh/", PERSONAL_KEY)
    assert fetched == [("/data/upload/3/a%20b.png", "Bearer short")] * 2


def test_polygons_and_rectangles_are_percent(begin: Begin) -> None:
    client = begin()
    for shape, name in (("polygon", "outline"), ("rectangle", "box")):
        assert setup(client, f"{shape}.1", extra_params=json.dumps({"shape": shape})).json()["from_name"] == name
    polygon = only_region(client.post("/predict", json=request(data_address(8), project="polygon.1")))
    assert (polygon["type"], polygon["value"]["polygonlabels"]) == ("polygonlabels", ["square"])
    assert polygon["value"]["points"] == [[0, 0], [25, 0], [25, 33.3333], [0, 33.3333]]
    rectangle = only_region(client.post("/predict", json=request(data_address(8), project="rectangle.1")))
    assert rectangle["value"] == {
        "x": 0, "y": 0, "width": 25, "height": 33.3333, "rotation": 0, "rectanglelabels": ["square"],
    }  # fmt: skip


def test_parameters_of_a_project_choose_model_and_options(begin: Begin) -> None:
    client = begin()
    answer = setup(client, "9.1", extra_params={"model": "two", "score_threshold": 0.9})
    assert answer.json()["model_version"] == "two"
    (prediction,) = client.post("/predict", json=request(data_address(), project="9.1")).json()["results"]
    assert prediction == {"result": [], "score": 0.0, "model_version": "two"}


def test_a_task_that_fails_does_not_take_the_others_with_it(begin: Begin) -> None:
    answer = begin().post(
        "/predict", json=request(data_address(4), "/data/upload/3/none.png", "data:,*", data_address())
    )
    assert answer.status_code == 200
    good, missing, broken, last = answer.json()["results"]
    assert [len(one["result"]) for one in (good, missing, broken, last)] == [1, 0, 0, 1]
    assert missing["model_version"].startswith("one failed: ")
    assert "404" in missing["model_version"]
    assert "base64" in broken["model_version"]


def test_many_tasks_in_one_request(begin: Begin) -> None:
    reds = [3 + index % 8 for index in range(40)]
    answer = begin(max_waiting=16).post("/predict", json=request(*map(data_address, reds)))
    assert answer.status_code == 200, answer.text
    areas = [int(np.sum(decode_brush(one["result"][0]["value"]["rle"], 24 * 32))) for one in answer.json()["results"]]
    assert areas == [red * red for red in reds]


@pytest.mark.parametrize(
    ("path", "content", "status", "field"),
    [
        ("/predict", {}, 422, "tasks"),
        ("/predict", {"tasks": []}, 422, "tasks"),
        ("/predict", {"tasks": [3]}, 422, "tasks"),
        ("/predict", {"tasks": [{}]}, 422, "label_config"),
        ("/predict", {"tasks": [{}], "label_config": "<View/>"}, 422, "label_config"),
        ("/predict", {"tasks": [{}], "label_config": CONFIG}, 422, "tasks[0].data.image"),
        ("/predict", request(3), 422, "tasks[0].data.image"),
        ("/predict", request("http://127.0.0.1:1/a.png"), 422, "tasks[0].data.image"),
        ("/predict", request("https://example.com/a.png"), 422, "tasks[0].data.image"),
        ("/predict", request("file:///etc/passwd"), 422, "tasks[0].data.image"),
        ("/predict", request("/away"), 422, "tasks[0]"),
        ("/predict", request("data:image/png;base64,AAAA"), 422, "tasks[0]"),
        ("/setup", {"project": "1.1"}, 422, "label_config"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": "{"}, 400, "extra_params"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": "3"}, 422, "extra_params"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": {"shape": "star"}}, 422, "extra_params.shape"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": {"model": "x"}}, 404, "model"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": {"odd": 1}}, 422, "extra_params.odd"),
        ("/setup", {"project": "1.1", "schema": CONFIG, "extra_params": {"iou_threshold": 2}}, 422, "extra_params"),
        ("/webhook", [], 422, "body"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_does_not_fit_is_a_problem(begin: Begin, path: str, content: Any, status: int, field: str) -> None:
    answer = begin().post(path, json=content)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


def test_without_an_address_of_label_studio_its_paths_are_refused(begin: Begin) -> None:
    answer = begin(host=False).post("/predict", json=request("/data/upload/3/a.png"))
    assert answer.status_code == 422
    assert "LABEL_STUDIO_URL" in answer.json()["detail"]


def test_only_label_studio_may_be_private_and_gets_the_key(begin: Begin, studio: Studio) -> None:
    client = begin(fetch=True)
    other = studio.url.replace("127.0.0.1", "localhost")
    answer = client.post("/predict", json=request(f"{other}/data/upload/3/a b.png"))
    assert answer.status_code == 422
    assert "expected a public address" in answer.json()["detail"]


def test_a_host_that_is_slow_costs_its_own_request_only(begin: Begin) -> None:
    client = begin(timeout=4.0)
    answer = client.post("/predict", json=request("/slow"))
    assert answer.status_code == 422
    assert "timed out" in answer.json()["detail"] or "too long" in answer.json()["detail"]
    only_region(client.post("/predict", json=request(data_address())))
    assert "protomask_worker_restarts_total{" not in client.get("/metrics").text


def test_events_and_training_are_answered(begin: Begin) -> None:
    client = begin()
    event = {"action": "ANNOTATION_CREATED", "annotation": {}, "project": {"id": 3}, "task": {}}
    assert client.post("/webhook", json=event).json()["status"] == "ok"
    assert client.post("/train", json={"annotations": [], "project": "3.1"}).status_code == 201


def test_without_the_option_there_are_no_such_routes(client: TestClient) -> None:
    assert client.get("/health").status_code == 404
    assert client.post("/predict", json={}).status_code == 404


@pytest.mark.parametrize("shape", ["brush", "polygon", "rectangle"])
def test_label_studio_accepts_the_predictions(begin: Begin, shape: str) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    client = begin()
    setup(client, f"{shape}.2", extra_params={"shape": shape})
    (prediction,) = client.post("/predict", json=request(data_address(6), project=f"{shape}.2")).json()["results"]
    assert prediction["result"]
    assert interface(CONFIG).validate_prediction(prediction, return_errors=True) == []
