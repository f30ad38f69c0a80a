"""The page that runs models in the browser finds what the package finds."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api")
pytest.importorskip("onnx")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

import protomask
from onnx_files import CANDIDATES, DETECTIONS, RULE, SIDE, detections, write_candidates, write_detections
from protomask.detection.calibration import Calibration, ScoreCurve
from protomask.detection.options import NMS_MODES
from protomask.masks.rle import decode_rle
from protomask.runtimes.info import FixedInput, ShortSideInput
from protomask.runtimes.shipped import SAMPLES
from protomask.serve.site import write_site
from serve.chromium import chromium
from serve.static_site import ask, host

pytestmark = pytest.mark.browser
NANO = Path(str(files("protomask"))) / "weights" / "yolact_nano.onnx"


def detection_files(folder: Path) -> dict[str, Path]:
    """Files of every form, by name."""
    numbers = np.random.default_rng(3)
    soft = numbers.random((4, 8, 8)).astype(np.float32)
    out_of_image = np.array([[-5, 3.2, 20.7, 40], [4, 4, 9.5, 12], [10, 10, 10, 10], [2, 2, 30, 8]], dtype=np.float32)
    scores = {"mask_scores": np.array([0.5, 1.2, 0.9, 0], dtype=np.float32)}
    region = detections((SIDE, SIDE), masks=soft, boxes=out_of_image, **scores)
    short = ShortSideInput(image_size=40, max_image_size=50, rounding="half_up", method="opencv")
    fixed = FixedInput(size=(SIDE, SIDE), method="opencv")
    by_name = {
        "grid": write_detections(
            folder / "grid.onnx", DETECTIONS.replace(input=fixed), detections((SIDE, SIDE), masks=soft)
        ),
        "region": write_detections(
            folder / "region.onnx", DETECTIONS.replace(mask_frame="region", input=short), region
        ),
        "continuous": write_detections(
            folder / "continuous.onnx",
            DETECTIONS.replace(mask_frame="region", mask_paste="continuous", input=short), region,
        ),
        "pixels": write_detections(
            folder / "pixels.onnx", DETECTIONS.replace(mask_frame="region", mask_paste="pixels"),
            {**region, "boxes": np.rint(out_of_image)},
        ),
    }  # fmt: skip
    calibration = Calibration(
        method="isotonic",
        class_scores=ScoreCurve(scores=(0.2, 0.5, 0.8), values=(0.1, 0.6, 0.7)),
        mask_scores=ScoreCurve(scores=(0.3, 0.6), values=(0.4, 0.9)),
    )
    by_name["calibrated"] = write_detections(
        folder / "calibrated.onnx",
        DETECTIONS.replace(input=fixed, calibration=calibration),
        detections((SIDE, SIDE), masks=soft, **scores),
    )
    for nms in NMS_MODES:
        by_name[nms] = write_candidates(
            folder / f"{nms}.onnx",
            CANDIDATES.replace(rule=RULE.replace(nms=nms, clip_boxes=nms == "batched")),
        )
    averaging = RULE.replace(duplicates="average", nms="batched", candidate_threshold=0.01)
    by_name["average"] = write_candidates(folder / "average.onnx", CANDIDATES.replace(rule=averaging))
    by_name["edges"] = write_candidates(folder / "edges.onnx", CANDIDATES.replace(rule=RULE.replace(edges="pixels")))
    return by_name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"yolact_nano": NANO, **detection_files(tmp_path_factory.mktemp("models"))}


@pytest.fixture(scope="module")
def address(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a site under a path of its host."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which brings the runtime of browsers: apt-get install npm")
    folder = tmp_path_factory.mktemp("host")
    write_site(folder / "under" / "a-path", models)
    with host(folder) as root:
        yield f"{root}under/a-path/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    asked: list[str] = []
    opened = browser.new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert all(url.startswith((address, "blob:")) for url in asked)


def compare(found: protomask.Instances, answer: dict[str, Any]) -> None:
    got = answer["instances"]
    assert [one["class_name"] for one in got] == list(found.names)
    assert tuple(answer["size"]) == found.image_size
    for one, expected in zip(got, found, strict=True):
        assert one["score"] == pytest.approx(expected.score, abs=1e-3)
        assert one["mask_score"] == (
            None if expected.mask_score is None else pytest.approx(expected.mask_score, abs=1e-3)
        )
        assert one["box"] == pytest.approx(expected.box.tolist(), abs=0.01)
        mask = decode_rle(one["segmentation"])
        union = (mask | expected.mask).sum()
        assert union == 0 or (mask & expected.mask).sum() / union >= 0.98


def test_samples_give_what_python_gives(page: Page, record_property: Callable[[str, object], None]) -> None:
    model = protomask.load("yolact_nano")
    times = []
    for path in sorted(SAMPLES.glob("scene_*.jpg")):
        answer = ask(page, "yolact_nano", path.read_bytes())
        found = model.predict(path, score_threshold=0.05)
        assert len(found) >= 5
        compare(found, answer)
        times.append(answer["ms"])
    record_property("milliseconds per image", sorted(times)[len(times) // 2])
    print(f"yolact_nano in the browser: {sorted(times)[len(times) // 2]:.0f} ms per image (median)")


@pytest.mark.parametrize("size", [(32, 32), (75, 100), (300, 41)])
@pytest.mark.parametrize(
    "name", ["grid", "region", "continuous", "pixels", "calibrated", *NMS_MODES, "average", "edges"]
)
def test_every_form_gives_what_python_gives(
    page: Page, models: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
    found = protomask.load(models[name]).predict(file.getvalue(), score_threshold=0.05)
    assert len(found) > 1
    compare(found, ask(page, name, file.getvalue()))


@pytest.mark.parametrize("method", ["pillow", "opencv", "bilinear"])
def test_images_are_resized_to_the_same_grey_levels(page: Page, method: Any) -> None:
    numbers = np.random.default_rng(1)
    for size in ((7, 5), (90, 61), (64, 200), (33, 40), (60, 20), (50, 44), (43, 44), (44, 60)):
        image = numbers.integers(0, 256, (*size, 3), dtype=np.uint8)
        rule = FixedInput(size=(33, 40), method=method)
        got = page.evaluate(
            """async ([height, width, data, rule]) => {
              const { prepare } = await import("./page/resize.js");
              return Array.from(prepare({ height, width, data, step: 3 }, { kind: "fixed", ...rule }).data);
            }""",
            [*size, image.ravel().tolist(), rule.to_dict()],
        )
        assert np.array_equal(np.reshape(got, (3, 33, 40)), rule.prepare(image).transpose(2, 0, 1))


def test_a_user_sees_and_filters_masks_without_a_server(browser: Browser, address: str) -> None:
    count = len(protomask.load("yolact_nano").predict(SAMPLES / "scene_2.jpg"))
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    expect(page.get_by_text("images stay on this device")).to_be_visible()
    expect(page.get_by_text("API key")).to_be_hidden()
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    expect(page.locator("#status")).to_have_text(re.compile(rf"scene_2\.jpg: {count} instances"), timeout=60_000)
    page.locator("#score").fill("0.6")
    assert 0 < page.locator("#rows tr:visible").count() < count
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Webcam").click()
    expect(page.locator("#timing")).to_contain_text("frames per second", timeout=60_000)
    page.close()


def test_mask_scores_are_shown_and_filtered(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_label("Model").select_option("region")
    page.get_by_role("button", name="Sample scene_2.jpg").click()
    expect(page.get_by_role("columnheader", name="Mask")).to_be_visible(timeout=60_000)
    count = page.locator("#rows tr:visible").count()
    page.get_by_label("Mask score at least").fill("0.6")
    assert 0 < page.locator("#rows tr:visible").count() < count
    page.get_by_label("Model").select_option("grid")
    expect(page.get_by_label("Mask score at least")).to_be_hidden()
    page.close()


def test_a_broken_image_is_named(browser: Browser, address: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page, held = browser.new_page(), []
    page.route("**/site.json", lambda route: held.append(route))
    with page.expect_request("**/site.json"):
        page.goto(address)
    page.locator("#files").set_input_files(tmp_path / "broken.jpg")
    held[0].continue_()  # even a page that was not ready when the file was chosen
    expect(page.get_by_role("alert")).to_have_text("broken.jpg: this browser cannot read the image.", timeout=60_000)
    page.close()
