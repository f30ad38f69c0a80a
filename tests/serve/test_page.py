"""The page of a server in a browser, as a user has it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")
pytest.importorskip("playwright.sync_api")
pytest.importorskip("axe_playwright_python.sync_playwright")

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import encode_rle
from serve.chromium import chromium
from server_process import Server

pytestmark = pytest.mark.browser
SCENE = Path(str(files("protomask"))) / "samples" / "scene_2.jpg"
Open = Callable[..., Page]
DROP = """([name, code]) => {
  const bytes = Uint8Array.from(atob(code), (one) => one.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type: "image/jpeg" }));
  document.getElementById("frame").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server("yolact_nano", "nuclei", "--threads", "1")
    yield started
    started.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Open]:
    """Open the page; it must not say anything on its console, nor ask any other host."""
    opened: list[Page] = []
    wrong: list[str] = []

    def begin(width: int = 1280, height: int = 800, scheme: Any = "light", address: str = server.address) -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        opened.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "warning" else None)
        page.on("request", lambda asked: wrong.append(asked.url) if not is_own(asked.url, address) else None)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        return page

    yield begin
    for page in opened:
        page.close()
    assert not wrong


def is_own(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", f"blob:{address}/"))


def drop(page: Page, content: bytes, name: str = "photo.jpg") -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def rows(page: Page) -> int:
    return page.locator("#rows tr:visible").count()


def set_range(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))


def colored(page: Page) -> float:
    """Mean of the canvas."""
    content = page.evaluate("document.getElementById('canvas').toDataURL()").partition(",")[2]
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")).mean())


def test_a_dropped_photo_is_counted_and_filtered_without_another_request(open_page: Open, server: Server) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    drop(page, SCENE.read_bytes())
    page.wait_for_selector("#rows tr")
    answer = httpx.post(
        f"{server.address}/v1/predict?score_threshold=0.05",
        content=SCENE.read_bytes(),
        headers={"content-type": "image/jpeg"},
    ).json()["images"][0]["instances"]
    for threshold in (0.3, 0.8, 0.05):
        set_range(page, "score", threshold)
        assert rows(page) == sum(one["score"] >= threshold for one in answer)
    set_range(page, "score", 0.3)
    counted = [one["class_name"] for one in answer if one["score"] >= 0.3]
    expect(page.locator("#status")).to_have_text(
        re.compile(rf"photo\.jpg: {len(counted)} instances .*{counted.count('ring')} ring")
    )
    page.get_by_role("checkbox", name="ring").uncheck()
    assert rows(page) == len(counted) - counted.count("ring")
    assert sum("/v1/predict" in url for url in asked) == 1


def test_switches_change_the_drawing_at_once(open_page: Open) -> None:
    page = open_page()
    drop(page, SCENE.read_bytes())
    page.wait_for_selector("#rows tr")
    seen = {colored(page)}
    for name in ("Masks", "Labels", "Boxes"):
        page.get_by_role("checkbox", name=name).click()
        page.wait_for_timeout(60)
        assert colored(page) not in seen
        seen.add(colored(page))


def test_pointing_at_an_instance_says_its_score_and_a_click_keeps_it(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    page.wait_for_selector("#rows tr")
    around = page.locator("#frame").bounding_box()
    assert around is not None
    # The star, of which there is one, lies right of the middle.
    page.mouse.move(around["x"] + around["width"] * 0.64, around["y"] + around["height"] * 0.62)
    expect(page.locator("#tip")).to_contain_text(re.compile(r"star .*score 0\.\d{3}.*pixels", re.DOTALL))
    expect(page.locator("#rows tr.focus")).to_contain_text("star")
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(5, 5)
    expect(page.locator("#tip")).to_be_hidden()
    expect(page.locator("#rows tr.focus button")).to_have_attribute("aria-pressed", "true")


def test_it_works_with_the_keyboard(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Sample scene_2.jpg").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("scene_2.jpg")
    page.wait_for_timeout(60)
    before = colored(page)
    page.locator("#frame").focus()
    for key in ("+", "+", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_timeout(60)
    assert colored(page) != before
    page.keyboard.press("0")
    page.wait_for_timeout(60)
    assert colored(page) == before
    page.get_by_role("button", name=re.compile("number 1$")).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr.focus")).to_have_count(1)
    page.locator("#score").focus()
    count = rows(page)
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert rows(page) < count


def test_downloads_hold_what_is_shown(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    page.wait_for_selector("#rows tr")
    set_range(page, "score", 0.5)
    got = {}
    for name in ("JSON", "GeoJSON", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        got[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(got[name])
    assert [path.name for path in got.values()] == ["scene_2.json", "scene_2.geojson", "scene_2-masks.png"]
    instances = json.loads(got["JSON"].read_text())["instances"]
    assert len(instances) == rows(page)
    assert all(one["score"] >= 0.5 for one in instances)
    features = json.loads(got["GeoJSON"].read_text())["features"]
    assert [one["properties"]["number"] for one in features] == [one["number"] for one in instances]
    assert all(one["geometry"]["type"] in ("Polygon", "MultiPolygon") for one in features)
    assert Image.open(got["PNG"]).size == Image.open(SCENE).size


def test_many_photos_are_looked_at_in_turn_and_shown_again(open_page: Open) -> None:
    page = open_page()
    page.locator("#files").set_input_files([str(SCENE.with_name(f"scene_{number}.jpg")) for number in range(1, 7)])
    expect(page.locator("#items .count:visible")).to_have_count(6, timeout=30_000)
    names = ["scene_6.jpg", "scene_1.jpg", "scene_2.jpg", "scene_3.jpg", "scene_4.jpg", "scene_6.jpg"]
    for name in names:  # more than stay decoded
        page.get_by_role("button", name=re.compile(f"^{re.escape(name)}, ")).click()
        expect(page.locator("#status")).to_contain_text(name)
    page.wait_for_timeout(100)
    assert colored(page) > 60  # the image is there again


def test_another_model_is_asked_when_it_is_chosen(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    page.wait_for_selector("#rows tr")
    with page.expect_response(lambda answer: "model=nuclei" in answer.url) as answer:
        page.get_by_label("Model").select_option("nuclei")
    assert answer.value.ok
    expect(page.locator("#rows button", has_text="star")).to_have_count(0)


def test_a_file_that_is_no_image_is_named(open_page: Open) -> None:
    page = open_page()
    drop(page, b"nothing to see", "broken.jpg")
    expect(page.get_by_role("alert")).to_contain_text("broken.jpg: ")
    page.get_by_role("button", name="Sample scene_1.jpg").click()
    page.wait_for_selector("#rows tr")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_webcam_is_followed(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Webcam").click()
    expect(page.locator("#timing")).to_contain_text("frames per second", timeout=20_000)
    expect(page.get_by_role("status")).to_contain_text("webcam: ")
    page.get_by_role("button", name="Webcam", pressed=True).click()
    expect(page.get_by_role("button", name="Webcam", pressed=False)).to_be_visible()


def test_a_server_with_a_key_asks_for_it(browser: Browser) -> None:
    started = Server("yolact_nano", "--threads", "1", PROTOMASK_API_KEY="open-sesame")
    try:
        page = browser.new_page()
        page.goto(started.address)
        expect(page.get_by_role("alert")).to_have_text("This server asks for a key.")
        page.get_by_label("Key of this server").fill("open-sesame")
        page.get_by_role("button", name="Use").click()
        expect(page.get_by_label("Model")).to_have_value("yolact_nano")
        page.get_by_role("button", name="Sample scene_2.jpg").click()
        page.wait_for_selector("#rows tr")
        page.get_by_role("button", name="Webcam").click()
        expect(page.locator("#timing")).to_contain_text("frames per second", timeout=20_000)
        page.reload()
        expect(page.get_by_label("Model")).to_have_value("yolact_nano")
        page.close()
    finally:
        started.end()


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 800, "light"), (1280, 800, "dark"), (390, 844, "light"), (390, 844, "dark")]
)
def test_it_is_accessible_and_fits(open_page: Open, width: int, height: int, scheme: str) -> None:
    page = open_page(width, height, scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    page.wait_for_selector("#rows tr")
    page.locator("#rows tr").nth(1).click()
    page.get_by_text("API key").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_codes_and_outlines_are_those_of_the_package(open_page: Open) -> None:
    page = open_page()
    numbers = np.random.default_rng(17)
    masks = [
        numbers.random((int(height), int(width))) < share
        for height, width in numbers.integers(1, 15, (40, 2))
        for share in (0.0, 0.35, 0.6, 0.85, 1.0)
    ]
    codes = [encode_rle(mask[None])[0] for mask in masks]
    got = page.evaluate(
        """async (codes) => {
          const { areaOf, codeOf, runsOf } = await import("/page/rle.js");
          const { partsOf, ringsOf } = await import("/page/outlines.js");
          return codes.map((code) => {
            const runs = runsOf(code);
            return [codeOf(runs, code.size), areaOf(runs), partsOf(ringsOf(runs, code.size[0]))];
          });
        }""",
        codes,
    )
    for mask, code, (code_back, area, parts) in zip(masks, codes, got, strict=True):
        assert code_back == code
        assert area == mask.sum()
        expected = [[part.exterior, *part.holes] for part in mask_to_polygons(mask)]
        assert shapes(np.reshape(ring, (-1, 2)) for part in parts for ring in part) == shapes(
            ring for part in expected for ring in part
        )
        assert sorted(map(len, parts)) == sorted(map(len, expected))


def shapes(rings: Any) -> list[list[Any]]:
    """Rings that begin at their smallest point, in order."""
    turned = []
    for ring in rings:
        points = np.asarray(ring).astype(int).tolist()
        first = points.index(min(points))
        turned.append(points[first:] + points[:first])
    return sorted(turned)
