"""What is read from the labelling configuration of a Label Studio project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import protomask
from protomask.errors import ConfigError
from protomask.serve.label_config import Shape, read_control

CLASSES = ("person", "Car", "dog")


def config(*tags: str) -> str:
    return f"<View><!-- a note --><Image name='photo' value='$url'/>{''.join(tags)}</View>"


def tag(kind: str, name: str = "shapes", labels: str = "<Label value='person'/>", to_name: str = "photo") -> str:
    return f"<{kind} name='{name}' toName='{to_name}'>{labels}</{kind}>"


@pytest.mark.parametrize(
    ("tags", "shape", "expected"),
    [
        (("RectangleLabels", "PolygonLabels", "BrushLabels"), None, "brush"),
        (("RectangleLabels", "PolygonLabels"), None, "polygon"),
        (("RectangleLabels",), None, "rectangle"),
        (("BrushLabels", "PolygonLabels"), "polygon", "polygon"),
    ],
)
def test_masks_are_preferred_and_a_shape_can_be_chosen(tags: tuple[str, ...], shape: Shape, expected: str) -> None:
    control = read_control(config(*(tag(one, one) for one in tags)), CLASSES, shape)
    assert (control.shape, control.from_name.lower(), control.kind) == (
        expected, f"{expected}labels", f"{expected}labels",
    )  # fmt: skip
    assert (control.to_name, control.key) == ("photo", "url")


@pytest.mark.parametrize(
    ("labels", "expected", "unknown"),
    [
        ("<Label value='person'/><Label value='Dog'/>", {"person": "person", "dog": "Dog"}, ()),
        ("<Label value='Wagen' alias='car'/>", {"Car": "car"}, ()),
        ("<Label value='Thing' predicted_values='dog, Car,boat'/>", {"dog": "Thing", "Car": "Thing"}, ()),
        ("<View><Label value='dog'/></View><Label value='boat'/>", {"dog": "dog"}, ("boat",)),
    ],
)
def test_labels_belong_to_classes(labels: str, expected: dict[str, str], unknown: tuple[str, ...]) -> None:
    control = read_control(config(tag("BrushLabels", labels=labels)), CLASSES)
    assert (control.labels, control.unknown) == (expected, unknown)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<View>", "label_config: expected XML: "),
        ("no XML", "label_config: expected XML: "),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><View/>", "without a document type"),
        ("<View>" + " " * (1 << 20), "a million characters"),
        ("<View><Text name='a'/></View>", "expected BrushLabels or PolygonLabels or RectangleLabels .* got View, Text"),
        (config(tag("BrushLabels", to_name="other")), "for an Image, got View, Image, BrushLabels, Label"),
        (config(tag("Choices")), "for an Image"),
        (config(tag("BrushLabels", labels="<Label value='boat'/>")), r"\(person, Car, dog\), got boat"),
        (config(tag("BrushLabels", labels="")), "got none"),
    ],
    ids=range(9),
)
def test_what_does_not_fit(xml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_control(xml, CLASSES)


def test_the_configuration_in_the_documentation_fits_the_shipped_model() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "label-studio.md"
    (block,) = re.findall(r"```xml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    control = read_control(block, protomask.load("yolact_nano").class_names)
    assert control.unknown == ()
    assert len(control.labels) == 3
