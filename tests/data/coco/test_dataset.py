from __future__ import annotations

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coco_content import HEIGHT, IMAGE, SQUARE, WIDTH, annotation, compressed, content, square_mask, uncompressed
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.coco.schema import DataWarning
from protomask.errors import ConfigError, DataError
from protomask.structures.coco_json import CocoFile, Fault


def write(folder: Path, data: dict[str, Any] | str, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(images / "a.png")
    file = folder / "a.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return file


def make(folder: Path, data: dict[str, Any] | str, **options: Any) -> CocoDataset:
    return CocoDataset(write(folder, data), folder / "images", **options)


def rgb(image: torch.Tensor) -> list[int]:
    return [int(value) for value in image[:, 0, 0]]


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        compressed(square_mask()),
        uncompressed(square_mask()),
        [[*SQUARE[:4], 10.0, 6.0, 2.0, 6.0], [2.0, 6.0, 10.0, 6.0, *SQUARE[4:]]],
    ],
    ids=["polygon", "compressed", "uncompressed", "parts"],
)
def test_every_kind_of_segmentation(tmp_path: Path, segmentation: Any) -> None:
    image, target = make(tmp_path, content(annotation(segmentation=segmentation)))[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image.dtype == torch.uint8
    assert rgb(image) == [10, 20, 30]
    assert np.array_equal(target.masks[0].numpy(), square_mask().astype(bool))
    assert target.boxes.tolist() == [[2, 3, 10, 9]]
    assert target.labels.tolist() == [0]
    assert target.is_crowd.tolist() == [False]
    assert (target.image_id, target.image_size) == (7, (HEIGHT, WIDTH))


def test_crowd_and_order_are_kept(tmp_path: Path) -> None:
    crowd = annotation(id=1, iscrowd=1, category_id=9, segmentation=uncompressed(square_mask()))
    _, target = make(tmp_path, content(crowd, annotation()))[0]
    assert target.is_crowd.tolist() == [True, False]
    assert target.labels.tolist() == [1, 0]


def test_image_without_objects(tmp_path: Path) -> None:
    dataset = make(tmp_path, content())
    _, target = dataset[0]
    assert len(dataset) == 1
    assert target.boxes.shape == (0, 4)
    assert target.masks.shape == (0, HEIGHT, WIDTH)


def test_labels_follow_category_ids_or_names(tmp_path: Path) -> None:
    dataset = make(tmp_path, content(annotation()))
    assert (dataset.class_names, dataset.category_ids) == (("dog", "cat"), (3, 9))
    named = make(tmp_path, content(annotation()), class_names=["cat", "dog"])
    assert (named.class_names, named.category_ids) == (("cat", "dog"), (9, 3))
    assert named[0][1].labels.tolist() == [1]


def test_class_names_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)class names: cat, bird.*categories: +cat, dog"):
        make(tmp_path, content(), class_names=["cat", "bird"])


def test_content_parsed_before_is_not_read_again(tmp_path: Path) -> None:
    file = CocoFile.read(write(tmp_path, content(annotation())))
    file.path.unlink()
    dataset = CocoDataset(file, tmp_path / "images")
    assert dataset.annotation_file == tmp_path / "a.json"
    assert dataset[0][1].labels.tolist() == [0]


def test_the_first_fault_is_raised_unless_they_are_asked_for(tmp_path: Path) -> None:
    data = content(annotation(category_id=5), annotation(bbox=[1]), images=[IMAGE, IMAGE | {"id": 8, "width": 0}])
    with pytest.raises(Fault, match=r"a\.json: images\[1\] \(image 8\): expected a positive width"):
        make(tmp_path, data)
    faults: list[Fault] = []
    dataset = make(tmp_path, data, faults=faults)
    assert [fault.kind for fault in faults] == ["image size", "unknown category", "annotation id twice"]
    assert len(dataset) == 1


def test_dataset_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(make(tmp_path, content(annotation()))))
    assert len(dataset[0][1]) == 1


LARGER = np.ones((2 * HEIGHT, 2 * WIDTH), dtype=np.uint8)


@pytest.mark.parametrize(
    "counts", ["", "ÿ", "0P", compressed(LARGER)["counts"]], ids=["empty", "foreign", "cut", "long"]
)
def test_broken_run_lengths_name_the_annotation(tmp_path: Path, counts: str) -> None:
    broken = annotation(id=12, segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, bbox=None)
    dataset = make(tmp_path, content(annotation(), broken))
    with pytest.raises(DataError, match=r"a\.json: image 7 annotation 12: segmentation cannot be decoded"):
        dataset[0]


NEAR = [2, 3, 10, 9]


@pytest.mark.parametrize(
    ("changes", "boxes", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4]]}, [], "polygon of 4 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, [], "polygon of 7 numbers"),
        ({"segmentation": [SQUARE, [1, 2]]}, [NEAR], "polygon of 2 numbers .* dropped; 1 other parts kept"),
        ({"segmentation": []}, [], "no segmentation, dropped"),
        ({"segmentation": [[5, 5, 5, 5, 5, 5]]}, [], "empty mask, dropped"),
        ({"segmentation": [[50, 50, 60, 50, 60, 60]], "bbox": [50, 50, 10, 10]}, [], "empty mask, dropped"),
        ({"segmentation": uncompressed(np.zeros((HEIGHT, WIDTH), dtype=np.uint8))}, [], "empty mask, dropped"),
        ({"segmentation": [[5, 5, float("nan"), 5, 5, 9]]}, [], "coordinates are not finite"),
        ({"segmentation": [[5, 5, 1e12, 5, 5, 9]]}, [], "coordinates are not finite or absurdly large"),
        ({"bbox": [2, 3, 0, 6]}, [NEAR], "has no area, taken from the mask"),
        ({"bbox": [2, 3, float("nan"), 6]}, [NEAR], "has no area, taken from the mask"),
        ({"bbox": [40, 3, 8, 6]}, [NEAR], "disagrees with the mask"),
        ({"bbox": [0, 0, 30, 20]}, [NEAR], "disagrees with the mask"),
        ({"bbox": [-3, 3, 13, 6]}, [[0, 3, 10, 9]], "reaches outside the image, clipped"),
        ({"bbox": [2, 3, 8.5, 6.25]}, [[2, 3, 10.5, 9.25]], None),
        ({"bbox": None}, [NEAR], None),
        ({"iscrowd": None}, [NEAR], None),
    ],
)
def test_harmless_problems_are_counted(
    tmp_path: Path, changes: dict[str, Any], boxes: list[Any], message: str | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = make(tmp_path, content(annotation(**changes)))
        _, target = dataset[0]
        _ = dataset[0]
    found = [str(item.message) for item in caught if issubclass(item.category, DataWarning)]
    assert target.boxes.tolist() == boxes
    assert len(target.masks) == len(boxes)
    if message is None:
        assert found == []
    else:
        assert len(found) == 1
        assert re.search(rf"1 annotation problems: image 7 annotation 11: .*{message}", found[0])


def test_one_warning_for_many(tmp_path: Path) -> None:
    bad = [annotation(id=number, segmentation=[[1, 2]]) for number in range(40)]
    with pytest.warns(DataWarning, match=r"40 annotation problems: image 7 annotation 0: .*; and 35 more") as caught:
        dataset = make(tmp_path, content(*bad))
    assert len([item for item in caught if item.category is DataWarning]) == 1
    assert len(dataset.problems) == 40
    assert dataset.problems[3].annotation_id == 3


@pytest.mark.parametrize(
    ("size", "box", "area"),
    [((60, 40), [4, 6, 20, 18], 16 * 12), ((8, 40), [2, 3, 8, 9], 6 * 6)],
    ids=["resized", "cut"],
)
def test_image_file_of_another_size(tmp_path: Path, size: tuple[int, int], box: list[float], area: int) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation()), size=size), tmp_path / "images")
    with pytest.warns(DataWarning, match=rf"image 7: the file is {size[0]}x{size[1]} px, the JSON says 30x20"):
        image, target = dataset[0]
    assert image.shape[1:] == target.masks.shape[1:] == (size[1], size[0])
    assert target.boxes.tolist() == [box]
    assert int(target.masks.sum()) == area


@pytest.mark.parametrize(
    ("stored", "applied"), [((WIDTH, HEIGHT), False), ((HEIGHT, WIDTH), True)], ids=["stored frame", "turned frame"]
)
def test_exif_only_where_annotations_ask_for_it(tmp_path: Path, stored: tuple[int, int], applied: bool) -> None:
    file = write(tmp_path, content(annotation()))
    pixels = Image.new("RGB", stored)
    pixels.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    pixels.save(tmp_path / "images" / "a.png", exif=exif)
    image, target = CocoDataset(file, tmp_path / "images")[0]
    assert image.shape[1:] == target.masks.shape[1:] == (HEIGHT, WIDTH)
    assert int(image[0, 0, WIDTH - 1 if applied else 0]) == 255


@pytest.mark.parametrize("name", ["sub/deep/a.png", "sub\\deep\\a.png", "train2017/b.png", "b.png"])
def test_images_in_subfolders_or_not(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, content(images=[IMAGE | {"file_name": name}]))
    (tmp_path / "images" / "sub" / "deep").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "sub" / "deep" / "a.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "b.png")
    dataset = CocoDataset(file, tmp_path / "images")
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH)
    assert dataset.image_path(0).is_file()


def test_missing_files(tmp_path: Path) -> None:
    images = [IMAGE | {"id": number, "file_name": f"x{number}.png"} for number in range(7)]
    with pytest.raises(DataError, match=r"8 image files are missing|7 of 7 image files .* x0\.png, .*and 2 more"):
        make(tmp_path, content(images=images))
    with pytest.raises(DataError, match=r"the folder .*nowhere, which does not exist"):
        CocoDataset(tmp_path / "a.json", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"absent\.json: the file cannot be read"):
        CocoDataset(tmp_path / "absent.json", tmp_path / "images")


def test_unreadable_image(tmp_path: Path) -> None:
    dataset = make(tmp_path, content(annotation()))
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: image 7 cannot be read"):
        dataset[0]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "every", "counts"),
    [
        ("coco-mini", "train", 1, (73, 705, 7)),
        ("coco-mini", "val", 1, (82, 672, 8)),
        ("dsb2018-nuclei", "val", 7, None),
    ],
)
def test_real_data_loads(
    data_dir: Path, name: str, split: str, every: int, counts: tuple[int, int, int] | None
) -> None:
    dataset = CocoDataset.of_split(open_dataset(data_dir / name), split)
    targets = [dataset[index][1] for index in range(0, len(dataset), every)]
    for target in targets:
        assert bool(target.masks.flatten(1).any(1).all())
        assert bool((target.boxes[:, 2:] > target.boxes[:, :2]).all())
    if counts is not None:
        objects = sum(len(target) for target in targets)
        assert (len(dataset), objects, sum(int(target.is_crowd.sum()) for target in targets)) == counts


def test_other_classes_are_background(tmp_path: Path) -> None:
    data = content(annotation(), annotation(id=12, category_id=9))
    dataset = make(tmp_path, data, classes=["cat"])
    assert (dataset.class_names, dataset.category_ids, dataset.num_annotations) == (("cat",), (9,), 1)
    assert dataset[0][1].labels.tolist() == [0]
    assert make(tmp_path, data, classes=["cat", "dog"]).class_names == ("dog", "cat")
    with pytest.raises(Fault, match="expected categories named cow; the file has cat, dog"):
        make(tmp_path, data, classes=["cow", "cat"])


def test_masks_have_the_weight_of_their_source(tmp_path: Path) -> None:
    data = content(annotation(mask_source="pseudo"), annotation(id=12), annotation(id=13, mask_source="exact"))
    dataset = make(tmp_path, data)
    assert dataset.mask_sources == {"pseudo": 1, "exact": 1}
    plain = dataset[0][1]
    assert plain.mask_weights is None
    dataset.weigh_masks({"pseudo": 0.25})
    assert dataset[0][1].mask_trust.tolist() == [0.25, 1.0, 1.0]
    with pytest.raises(ConfigError, match=r"mask_weights: .* has no mask_source psuedo, only pseudo, exact"):
        dataset.weigh_masks({"psuedo": 0.5})


def test_masks_that_are_only_boxes_have_weight_0_unless_given(tmp_path: Path) -> None:
    dataset = make(tmp_path, content(annotation(mask_source="box"), annotation(id=12)))
    dataset.weigh_masks({})
    assert dataset[0][1].mask_trust.tolist() == [0.0, 1.0]
    dataset.weigh_masks({"box": 0.5})
    assert dataset[0][1].mask_trust.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("turned", [False, True])
def test_a_jpeg_may_be_reduced_with_its_truth(tmp_path: Path, turned: bool) -> None:
    size = (400, 300) if not turned else (300, 400)  # as the annotations lie
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.new("RGB", (400, 300), (200, 0, 0)).save(tmp_path / "images" / "a.jpg", exif=exif)
    image = {**IMAGE, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    square = annotation(segmentation=[[40, 80, 140, 80, 140, 180, 40, 180]], bbox=[40, 80, 100, 100], area=10000)
    (tmp_path / "a.json").write_text(json.dumps(content(square, images=[image])))
    dataset = CocoDataset(tmp_path / "a.json", tmp_path / "images")
    for at_least, factor in ((None, 1), ((201, 201), 1), ((100, 140), 2), ((30, 30), 8)):
        pixels, target = dataset.load_sample(0, at_least)
        assert target.image_size == tuple(pixels.shape[1:]) == (-(-size[1] // factor), -(-size[0] // factor))
        assert np.allclose(target.boxes[0].numpy(), np.array([40, 80, 140, 180]) / factor, atol=1)
        assert int(target.masks.sum()) == pytest.approx(10000 / factor**2, rel=0.15)


def test_what_cannot_be_reduced_keeps_its_size(tmp_path: Path) -> None:
    dataset = make(tmp_path, content(annotation()))
    assert tuple(dataset.load_sample(0, (2, 2))[0].shape[1:]) == (HEIGHT, WIDTH)
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.png", format="JPEG")
    with pytest.warns(DataWarning, match="the file is 64x64 px"):
        whole = dataset[0][1]
    reduced = dataset.load_sample(0, (2, 2))[1]
    assert reduced.image_size == whole.image_size == (64, 64)
