"""``POST /v1/predict``: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from protomask.masks.rle import decode_rle
from serve.conftest import Start, image


def entry(red: int = 5) -> dict[str, str]:
    return {"base64": base64.b64encode(image(red)).decode()}


def only_instance(answer: Any) -> dict[str, Any]:
    (one,) = answer.json()["images"]
    (instance,) = one["instances"]
    return dict(instance)


def check_is_right(answer: Any, red: int = 5) -> None:
    assert answer.status_code == 200, answer.text
    instance = only_instance(answer)
    assert instance["box"] == [0, 0, red, red]
    mask = decode_rle(instance["segmentation"])
    assert mask[:red, :red].all()
    assert mask.sum() == red * red


def test_raw_bytes(client: TestClient) -> None:
    for kind in ("image/png", "application/octet-stream", "image/jpeg; q=1"):
        check_is_right(client.post("/v1/predict", content=image(), headers={"content-type": kind}))


def test_multipart_with_several_images_and_options(client: TestClient) -> None:
    parts = [("image", ("a.png", image(3), "image/png")), ("images", ("b.png", image(7), "image/png"))]
    answer = client.post("/v1/predict", files=parts, data={"options": '{"max_detections": 5}', "model": "two"})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["model"] == "two"
    assert [one["name"] for one in content["images"]] == ["a.png", "b.png"]
    assert [one["instances"][0]["box"][2] for one in content["images"]] == [3, 7]


def test_json_with_base64_and_data_addresses(client: TestClient) -> None:
    check_is_right(client.post("/v1/predict", json={"images": [entry()]}))
    address = {"base64": "data:image/png;base64," + entry()["base64"], "name": "mine"}
    answer = client.post("/v1/predict", json={"images": [address], "options": {"score_threshold": 0.4}})
    check_is_right(answer)
    assert answer.json()["images"][0]["name"] == "mine"


def test_options_in_the_query_reach_the_prediction(client: TestClient) -> None:
    answer = client.post("/v1/predict?score_threshold=0.9", content=image(), headers={"content-type": "image/png"})
    assert answer.json()["images"][0]["instances"] == []


@pytest.mark.parametrize("masks", ["polygons", "none"])
def test_masks_as_polygons_or_not_at_all(client: TestClient, masks: str) -> None:
    answer = client.post(f"/v1/predict?masks={masks}", content=image(4), headers={"content-type": "image/png"})
    instance = only_instance(answer)
    assert "segmentation" not in instance
    assert instance.get("polygons") == ([[[[0, 0], [4, 0], [4, 4], [0, 4]]]] if masks == "polygons" else None)


@pytest.mark.parametrize(("ask", "accept"), [("?format=geojson", "*/*"), ("", "application/geo+json;q=0.9, text/html")])
def test_geojson(client: TestClient, ask: str, accept: str) -> None:
    answer = client.post(f"/v1/predict{ask}", content=image(4), headers={"content-type": "image/png", "accept": accept})
    assert answer.headers["content-type"] == "application/geo+json"
    content = answer.json()
    assert (content["type"], content["name"]) == ("FeatureCollection", "image")
    assert content["features"][0]["geometry"]["coordinates"][0][0] == [0, 0]


def test_overlay_and_label_map(client: TestClient) -> None:
    headers = {"content-type": "image/png"}
    overlay = client.post("/v1/predict", content=image(20), headers={**headers, "accept": "image/*"})
    assert Image.open(io.BytesIO(overlay.content)).size == (32, 24)
    numbers = client.post("/v1/predict?format=label-map", content=image(5), headers=headers)
    pixels = np.array(Image.open(io.BytesIO(numbers.content)))
    assert int((pixels == 1).sum()) == 25
    assert pixels.max() == 1


@pytest.mark.parametrize(
    ("path", "content", "kind", "status", "field"),
    [
        ("", b"no image", "image/png", 422, "images[0]"),
        ("", b"", "image/png", 422, "images[0]"),
        ("", image()[:50], "image/png", 422, "images[0]"),
        ("", image(99), "image/png", 500, "images[0]"),
        ("", image(), "text/plain", 415, "content-type"),
        ("", image(), "", 415, "content-type"),
        ("?score_threshold=2", image(), "image/png", 422, "score_threshold"),
        ("?score_threshold=a", image(), "image/png", 422, "score_threshold"),
        ("?score_threshold=NaN", image(), "image/png", 422, "score_threshold"),
        ("?score_threshold=1&score_threshold=1", image(), "image/png", 422, "score_threshold"),
        ("?nms=best", image(), "image/png", 422, "nms"),
        ("?sore_threshold=1", image(), "image/png", 422, "sore_threshold"),
        ("?batch_size=4", image(), "image/png", 422, "batch_size"),
        ("?model=three", image(), "image/png", 404, "model"),
        ("?format=xml", image(), "image/png", 422, "format"),
        ("?masks=all", image(), "image/png", 422, "masks"),
        ("?classes=circle", image(), "image/png", 422, "classes"),
        ("", b"{", "application/json", 400, "body"),
        ("", b"[" * 100_000, "application/json", 400, "body"),
        ("", b"[]", "application/json", 422, "body"),
        ("", b"{}", "application/json", 422, "images"),
        ("", b'{"images": []}', "application/json", 422, "images"),
        ("", b'{"images": [{}]}', "application/json", 422, "images[0]"),
        ("", b'{"images": [{"base64": 3}]}', "application/json", 422, "images[0].base64"),
        ("", b'{"images": [{"base64": "*"}]}', "application/json", 422, "images[0].base64"),
        ("", b'{"images": [{"url": "http://a/b"}]}', "application/json", 422, "images[0].url"),
        ("", b'{"images": [{"base64": "", "name": 1}]}', "application/json", 422, "images[0].name"),
        ("", b'{"images": [{"base64": ""}], "options": 3}', "application/json", 422, "options"),
        ("", b'{"images": [{"base64": ""}], "odd": 3}', "application/json", 422, "odd"),
        ("", b'{"images": [{"base64": ""}], "model": {}}', "application/json", 422, "model"),
        ("", b'{"images": [{"base64": ""}], "masks": []}', "application/json", 422, "masks"),
        ("", b"--x\r\nbroken", "multipart/form-data; boundary=x", 422, "images"),
        ("", b"", "multipart/form-data", 400, "body"),
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_what_does_not_fit_is_a_problem_that_names_the_field(
    client: TestClient, path: str, content: bytes, kind: str, status: int, field: str
) -> None:
    answer = client.post(f"/v1/predict{path}", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["field"]) == (status, field)
    assert problem["detail"]
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([("picture", ("a.png", image(), "image/png"))], "picture"),
        ([("image", (None, "text"))], "image"),
        ([("image", ("a.png", image(), "image/png")), ("options", (None, "{"))], "options"),
        ([("model", (None, "one"))], "images"),
        ([("image", (f"{n}.png", image(), "image/png")) for n in range(17)], "images"),
        ([("image", (f"{n}.png", image(), "image/png")) for n in range(2)] + [("format", (None, "png"))], "images"),
        ([("image", ("a.png", image(), "image/png")), ("image", ("b.png", b"broken", "image/png"))], "images[1]"),
    ],
)  # fmt: skip
def test_forms_that_do_not_fit(client: TestClient, files: list[Any], field: str) -> None:
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["field"] == field


def test_an_accept_header_that_nothing_fits(client: TestClient) -> None:
    answer = client.post("/v1/predict", content=image(), headers={"content-type": "image/png", "accept": "text/html"})
    assert (answer.status_code, answer.json()["field"]) == (406, "accept")


def test_images_with_too_many_pixels_are_refused_before_they_are_decoded(start: Start) -> None:
    client = start(max_pixels=0.001)
    answer = client.post("/v1/predict", content=image(size=(40, 40)), headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert "expected at most 0.001 megapixels, got 40x40 pixels" in answer.json()["detail"]


def test_addresses_are_fetched_where_that_is_allowed_but_never_from_private_networks(start: Start) -> None:
    client = start(fetch=True)
    answer = client.post("/v1/predict", json={"images": [{"url": "http://127.0.0.1:9/a.png"}]})
    assert answer.status_code == 422
    assert "private" in answer.json()["detail"] or "127.0.0.1" in answer.json()["detail"]
    answer = client.post("/v1/predict", json={"images": [{"url": "file:///etc/passwd"}]})
    assert answer.json()["field"] == "images[0].url"


def test_the_document_names_every_option_and_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/predict"]["post"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"score_threshold", "classes", "model", "format", "masks"} <= names
    assert set(operation["requestBody"]["content"]) >= {"multipart/form-data", "application/json", "image/jpeg"}
    assert {"200", "413", "422", "429", "503"} <= set(operation["responses"])
    json.dumps(document)
