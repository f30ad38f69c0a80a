"""Every format gives the mask back, read as the COCO API reads it."""

from __future__ import annotations

import base64
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from protomask.masks.outlines import outline_runs
from protomask.masks.rle import decode_rle
from protomask.masks.runs import MaskWindow, mask_runs, runs_to_window
from protomask.structures.annotations import coco_entry, labelme_file, labelme_shapes, yolo_outline

SIZE = (40, 60)
Mask = NDArray[np.bool_]


def placed(part: Mask, top: int, left: int) -> MaskWindow:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    mask[top, left] = True
    return runs_to_window(mask_runs(mask), SIZE[0])


windows = st.builds(
    placed,
    arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.integers(0, 28),
    st.integers(0, 48),
)


def whole(window: MaskWindow) -> Mask:
    mask = np.zeros(SIZE, dtype=np.bool_)
    top, left, part = window
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def filled(outlines: list[list[float]]) -> Mask:
    return whole(runs_to_window(outline_runs(outlines, SIZE), SIZE[0]))


@given(windows)
def test_coco(window: MaskWindow) -> None:
    entry = coco_entry(window, SIZE)
    segmentation = entry["segmentation"]
    mask = filled(segmentation) if isinstance(segmentation, list) else decode_rle(segmentation)
    np.testing.assert_array_equal(mask, whole(window))
    assert entry["area"] == window.mask.sum()
    assert entry["bbox"] == [window.left, window.top, *window.mask.shape[::-1]]


@given(windows)
def test_labelme(window: MaskWindow) -> None:
    mask = np.zeros(SIZE, dtype=np.bool_)
    for shape in labelme_shapes(window):
        if shape["shape_type"] == "polygon":
            mask |= filled([np.ravel(shape["points"]).tolist()])
        else:
            patch = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
            (left, top), (right, bottom) = shape["points"]
            assert patch.shape == (bottom - top + 1, right - left + 1)
            mask[top : bottom + 1, left : right + 1] |= patch
    np.testing.assert_array_equal(mask, whole(window))


@given(windows)
def test_yolo(window: MaskWindow) -> None:
    shares = np.array(yolo_outline(window, SIZE).split(), dtype=float).reshape(-1, 2)
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_array_equal(filled([(shares * SIZE[::-1]).round(3).ravel().tolist()]), whole(window))


def test_holes_and_parts() -> None:
    ring = np.ones((3, 3), dtype=np.bool_)
    ring[1, 1] = False
    [shape] = labelme_shapes(MaskWindow(5, 6, ring))
    assert (shape["shape_type"], shape["points"]) == ("mask", [[6, 5], [8, 7]])
    apart = np.array([[True, False, True]])
    assert [shape["points"][0] for shape in labelme_shapes(MaskWindow(5, 6, apart))] == [[6.0, 5.0], [8.0, 5.0]]


def test_labelme_files_name_their_image() -> None:
    content = labelme_file("a.jpg", SIZE, [])
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a.jpg", 40, 60)
    assert content["imageData"] is None
