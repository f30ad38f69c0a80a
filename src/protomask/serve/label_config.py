"""The labelling configuration of a Label Studio project: which regions it has for images, and with which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from xml.etree import ElementTree

from protomask.errors import ConfigError

Shape = Literal["brush", "polygon", "rectangle"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
_MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Control:
    """A tag that labels regions of an image.

    Attributes:
        shape: of its regions.
        from_name: its own name.
        to_name: name of the tag with the image.
        key: of the address of the image in the data of a task.
        labels: what a region of each class of the model is labelled; other classes have no label.
        unknown: labels of which the model has no class.

    """

    shape: Shape
    from_name: str
    to_name: str
    key: str
    labels: Mapping[str, str]
    unknown: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Type of its regions, and the key of their labels."""
        return f"{self.shape}labels"


def read_control(xml: str, class_names: Sequence[str], shape: Shape | None = None) -> Control:
    """The tag of a project whose regions a model can give.

    A label belongs to the class of the same name, in whichever case, or to those that its attribute
    ``predicted_values`` lists, separated by commas. Results have the alias of a label, where it has one.

    Args:
        xml: the configuration.
        class_names: of the model.
        shape: of the regions; by default the first that the project has of brush, polygon and rectangle.

    Raises:
        ConfigError: it is not XML, has no such tag for an image, or none of its labels is a class of the model.

    """
    root = _parse(xml)
    images = {tag.get("name", ""): tag.get("value", "") for tag in root.iter() if tag.tag.lower() == "image"}
    wanted = [f"{one}labels" for one in (SHAPES if shape is None else (shape,))]
    found = [tag for tag in root.iter() if tag.tag.lower() in wanted and tag.get("toName") in images]
    if not found:
        tags = " or ".join(f"{one.capitalize()}Labels" for one in (SHAPES if shape is None else (shape,)))
        raise ConfigError(f"label_config: expected {tags} for an Image, got {_tags(root)}")
    tag = min(found, key=lambda one: wanted.index(one.tag.lower()))
    to_name = tag.get("toName", "")
    labels, unknown = _match(tag, class_names)
    if not labels:
        raise ConfigError(
            f"label_config: expected labels that are classes of the model ({_few(class_names)}), "
            f"got {_few(unknown) or 'none'}"
        )
    of_tag: dict[str, Shape] = {f"{one}labels": one for one in SHAPES}
    return Control(
        shape=of_tag[tag.tag.lower()],
        from_name=tag.get("name", ""),
        to_name=to_name,
        key=images[to_name].removeprefix("$"),
        labels=labels,
        unknown=tuple(unknown),
    )


def _parse(xml: str) -> ElementTree.Element:
    if len(xml) > _MAX_CHARACTERS or "<!" in xml.replace("<!--", ""):  # no entities, which could grow without end
        raise ConfigError("label_config: expected up to a million characters of XML without a document type")
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"label_config: expected XML: {error}") from error


def _match(tag: ElementTree.Element, class_names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    folded = {name.casefold(): name for name in reversed(class_names)}
    labels: dict[str, str] = {}
    unknown: list[str] = []
    for label in tag.iter("Label"):
        said = label.get("alias") or label.get("value") or ""
        names = list(_names_of(label, class_names, folded))
        for name in names:
            labels.setdefault(name, said)
        if not names:
            unknown.append(label.get("value", ""))
    return labels, unknown


def _names_of(label: ElementTree.Element, class_names: Sequence[str], folded: Mapping[str, str]) -> Iterator[str]:
    listed = label.get("predicted_values")
    given = listed.split(",") if listed else [label.get("value", ""), label.get("alias", "")]
    for text in given:
        name = text.strip()
        if name in class_names:
            yield name
        elif name.casefold() in folded:
            yield folded[name.casefold()]


def _tags(root: ElementTree.Element) -> str:
    return _few(list(dict.fromkeys(tag.tag for tag in root.iter())))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
