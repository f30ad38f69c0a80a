"""COCO JSON files: their content, their images and their categories, with one list of repairs.

Everything that reads such a file begins here: training, evaluation, conversion, the check, and predictions that take
over the ids of a file. What annotations say is read in `protomask.data.coco.schema`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from protomask.errors import DataError
from protomask.structures.file_names import FileNames, name_flaw, with_slashes

NAMED = 5
"""Number of items that a message lists before it only counts."""
_SHOWN = 60  # characters of a value in a message


class Fault(DataError):
    """An annotation file that breaks the format or contradicts itself.

    Attributes:
        kind: short name of the broken rule, the same for everything that breaks it.
        where: place in the file: ids, or key and position; empty for the file as a whole.
        reason: expected and got.
        items: everything concerned, if that is more than one thing.

    """

    def __init__(self, file: Path | str, kind: str, where: str, reason: str, items: Sequence[str] = ()) -> None:
        super().__init__(": ".join(filter(None, (str(file), where, reason))))
        self.kind, self.where, self.reason, self.items = kind, where, reason, tuple(items)


class Flaw(Exception):
    """A `Fault` before its place is known."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, kind: str, where: str, reason: str) -> None:
        self.found.append(Fault(self.file, kind, where, reason))


@dataclass(frozen=True)
class CocoFile:
    """An annotation file, parsed once for everything that needs it.

    Attributes:
        path: path of the file, or what messages call it.
        content: its content, not checked and never changed.

    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> CocoFile:
        """Parse a file.

        Raises:
            Fault: the file cannot be read, or is not a JSON object.

        """
        return cls(Path(path), read_json_object(Path(path), "images, annotations and categories"))

    @classmethod
    def of(cls, source: str | Path | Mapping[str, Any] | CocoFile) -> CocoFile:
        """What ``source`` means: a path, the content of a file, or a file that is parsed already.

        Raises:
            Fault: as `read`.

        """
        if isinstance(source, CocoFile):
            return source
        return cls(Path("ground truth"), source) if isinstance(source, Mapping) else cls.read(source)

    def with_classes(self, names: Sequence[str]) -> CocoFile:
        """The file without the categories of other names and their annotations.

        Raises:
            Fault: the file has no category of one of the names.

        """
        entries = self.content.get("categories")
        entries = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
        known = [entry.get("name") for entry in entries]
        missing = [name for name in names if name not in known]
        if missing:
            others = ", ".join(map(str, known))
            reason = f"expected categories named {', '.join(missing)}; the file has {others}"
            raise Fault(self.path, "class names", "", reason)
        left_out = {_as_id(entry.get("id")) for entry in entries if entry.get("name") not in names}
        kept = {"categories": [entry for entry in entries if entry.get("name") in names]}
        annotations = self.content.get("annotations")
        if isinstance(annotations, list):
            kept["annotations"] = [
                entry
                for entry in annotations
                if not isinstance(entry, Mapping) or _as_id(entry.get("category_id")) not in left_out
            ]
        return CocoFile(self.path, {**self.content, **kept})


def _as_id(value: Any) -> int | str:
    number = whole_number(value)
    return shown(value) if number is None else number


class ImageEntry(NamedTuple):
    """One image of a file; ``size`` (H, W) is None where the file does not have to state it, and does not."""

    image_id: int
    size: tuple[int, int] | None
    file_name: str


def read_json(path: str | Path) -> Any:
    """Content of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        Fault: the file cannot be read, or is not JSON; the message names file, line and column.

    """
    file = Path(path)
    try:
        return json.loads(_text_of(file), parse_float=_Floats().__getitem__)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        raise Fault(file, "annotation file", "", reason) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Fault(file, "annotation file", where, f"not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise Fault(file, "annotation file", "", "not valid JSON: it is nested too deeply") from error
    except ValueError as error:  # of the text's encoding, or a number of thousands of digits
        raise Fault(file, "annotation file", "", f"not valid JSON: {error}") from error


def _text_of(file: Path) -> str:
    """Text of a JSON file; its bytes are not kept beside it, for it may be large."""
    content = file.read_bytes()
    return content.decode(json.detect_encoding(content), "surrogatepass")


class _Floats(dict[str, float]):
    """Numbers by their text: outlines with a decimal or two repeat few numbers, which are kept once each."""

    def __missing__(self, text: str) -> float:
        number = float(text)
        if len(self) < _MOST_FLOATS:
            self[text] = number
        return number


_MOST_FLOATS = 1 << 18
"""Numbers that are kept; in a file of many different ones more would cost more than they save."""


def read_json_object(file: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        file: path of the file.
        expected: what the object should have, for messages.

    Raises:
        Fault: as `read_json`, or the file holds something else.

    """
    content = read_json(file)
    if not isinstance(content, dict):
        reason = f"expected an object with {expected}, got a {type(content).__name__}"
        raise Fault(file, "annotation file", "", reason)
    return content


def read_entries(file: CocoFile, key: str, faults: Faults) -> list[tuple[int, Mapping[str, Any]]]:
    """The objects in one of the lists of a file, each with its position.

    Raises:
        Fault: there is no such list.

    """
    if key not in file.content:
        reason = f"key {key!r} is missing, a COCO instance JSON has images, annotations and categories"
        raise Fault(file.path, "annotation file", "", reason)
    entries = file.content[key]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        reason = f"expected {key!r} to be a list, got {type(entries).__name__}"
        raise Fault(file.path, "annotation file", "", reason)
    kept = []
    for position, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            kept.append((position, entry))
        else:
            faults.add("entry", "", f"expected {key}[{position}] to be an object, got {type(entry).__name__}")
    return kept


def read_images(
    entries: Iterable[tuple[int, Mapping[str, Any]]], faults: Faults, *, needs_files: bool = True
) -> dict[int, ImageEntry]:
    """The images by id, in the file's order.

    Args:
        entries: position and entry.
        faults: receives the faults of the entries left out.
        needs_files: the image files are to be opened, so sizes and usable file names are needed.

    """
    found: dict[int, ImageEntry] = {}
    for position, entry in entries:
        try:
            image = _read_image(entry, needs_files=needs_files)
            if image.image_id in found:
                raise Flaw("image id twice", "the image id occurs twice")
        except Flaw as flaw:
            faults.add(flaw.kind, f"images[{position}] (image {shown(entry.get('id'))})", flaw.reason)
        else:
            found[image.image_id] = image
    return found


def _read_image(entry: Mapping[str, Any], *, needs_files: bool) -> ImageEntry:
    required = ("id", "file_name", "width", "height") if needs_files else ("id",)
    missing = [key for key in required if key not in entry]
    if missing:
        raise Flaw("image key", f"key {missing[0]!r} is missing")
    image_id = whole_number(entry["id"])
    if image_id is None:
        raise Flaw("image id", f"expected an integer image id, got {shown(entry['id'])}")
    name = entry.get("file_name", "" if not needs_files else None)
    if not isinstance(name, str) or (needs_files and not name):
        raise Flaw("file_name", f"expected a file_name, got {shown(name)}")
    if needs_files and (flaw := name_flaw(name)) is not None:
        raise Flaw("file_name", f"expected the path of a file in the folder of the images, got {shown(name)}: {flaw}")
    width, height = entry.get("width"), entry.get("height")
    if not needs_files and (width is None or height is None):
        return ImageEntry(image_id, None, name)
    sides = whole_number(height), whole_number(width)
    if sides[0] is None or sides[1] is None or min(sides[0], sides[1]) <= 0:
        reason = f"expected a positive width and height, got {shown(width)} and {shown(height)}"
        raise Flaw("image size", reason)
    if sides[0] * sides[1] > max_pixels():
        reason = f"expected the width and height of an image, got {shown(width)} and {shown(height)}"
        raise Flaw("image size", reason)
    return ImageEntry(image_id, (sides[0], sides[1]), name)


def max_pixels() -> int:
    """The largest number of pixels that an image can have: twice Pillow's limit, beyond which it opens none."""
    limit = Image.MAX_IMAGE_PIXELS
    return 2**31 - 1 if limit is None else min(2 * limit, 2**31 - 1)


def read_categories(
    entries: Iterable[tuple[int, Mapping[str, Any]]], faults: Faults, *, needs_names: bool = True
) -> dict[int, str]:
    """Names of the categories by id, in the file's order.

    Args:
        entries: position and entry.
        faults: receives the faults of the entries left out.
        needs_names: otherwise a category without a name is called by its id.

    """
    found: dict[int, str] = {}
    for position, entry in entries:
        category_id, name = whole_number(entry.get("id")), entry.get("name")
        if name is None and not needs_names:
            name = str(category_id)
        if category_id is None or not isinstance(name, str):
            got = ", ".join(f"{key} {shown(entry[key])}" for key in ("id", "name") if key in entry) or "neither"
            faults.add("category", f"categories[{position}]", f"expected an integer id and a name, got {got}")
        elif category_id in found:
            faults.add("category id twice", "", f"category id {category_id} occurs twice")
        else:
            found[category_id] = name
    return found


class CocoIds(NamedTuple):
    """The ids under which a file knows its images and the classes of a model."""

    images: dict[str, int]
    categories: list[int]


def read_coco_ids(annotation_file: str | Path | CocoFile, class_names: Sequence[str]) -> CocoIds:
    """The ids under which a COCO annotation file knows its images and the classes of a model.

    Args:
        annotation_file: COCO JSON with ``images`` and ``categories``.
        class_names: names the model gives to its labels.

    Returns:
        The image id of each ``file_name``, and the category id of each label.

    Raises:
        DataError: the file cannot be read, is not COCO, or lacks one of the classes.

    """
    file = CocoFile.of(annotation_file)
    faults = Faults(file.path)
    image_entries, category_entries = (read_entries(file, key, faults) for key in ("images", "categories"))
    images = read_images(image_entries, faults, needs_files=False)
    names = read_categories(category_entries, faults)
    for image in images.values():
        if not image.file_name:
            faults.add("file_name", f"image {image.image_id}", "key 'file_name' is missing")
    if faults.found:
        raise faults.found[0]
    used = used_ids(file, "category_id")
    by_name: dict[str, int] = {}
    for category_id, name in without_unused(names, used, category_entries, class_names).items():
        if name in by_name:
            raise Fault(file.path, "category name twice", "", f"category names occur more than once: {name}")
        by_name[name] = category_id
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise DataError(
            f"{file.path}: expected the classes of the model among its categories, lacks {', '.join(missing)}"
        )
    return CocoIds({image.file_name: image.image_id for image in images.values()}, [by_name[n] for n in class_names])


def used_ids(file: CocoFile, key: str) -> set[int]:
    """The ids that annotations of a file refer to with a key."""
    annotations = file.content.get("annotations")
    if not isinstance(annotations, Sequence):
        return set()
    return {
        number
        for entry in annotations
        if isinstance(entry, Mapping) and (number := whole_number(entry.get(key))) is not None
    }


def without_unused(
    names: Mapping[int, str],
    used: set[int],
    entries: Iterable[tuple[int, Mapping[str, Any]]],
    class_names: Sequence[str] | None = None,
) -> dict[int, str]:
    """Leave out categories without objects that are parents of the classes, as Roboflow writes them.

    These are a category that is the ``supercategory`` of all others and has the supercategory "none", and categories
    that have the same name as another one.

    Args:
        names: name of each category by id.
        used: ids that annotations refer to.
        entries: the entries of the categories.
        class_names: classes that are asked for, which are kept.

    """
    kept = dict(names)
    root = _unused_root(names, used, entries)
    if root is not None and names[root] not in (class_names or ()):
        del kept[root]
    ids_of: dict[str, list[int]] = {}
    for category_id, name in kept.items():
        ids_of.setdefault(name, []).append(category_id)
    for ids in ids_of.values():
        if len(ids) > 1:
            # A parent comes before its classes.
            having = [category_id for category_id in ids if category_id in used] or [max(ids)]
            for category_id in set(ids) - set(having) if len(having) == 1 else ():
                del kept[category_id]
    return kept


def _unused_root(
    names: Mapping[int, str], used: set[int], entries: Iterable[tuple[int, Mapping[str, Any]]]
) -> int | None:
    """Id of the category that has no object and no parent and is the parent of all others."""
    parents = {whole_number(entry.get("id")): entry.get("supercategory") for _, entry in entries}
    for root in (number for number in names if number not in used and parents.get(number) == "none"):
        others = [parents.get(number) for number in names if number != root]
        if others and all(parent == names[root] for parent in others):
            return root
    return None


class ImageIds:
    """Finds the image id of a file by its name, as annotation files name images: relative to some folder.

    Args:
        ids: image id of each ``file_name``.

    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._names = FileNames(ids)
        self._full_names: dict[str, str | None] = {}
        for known in ids:
            alone = with_slashes(known).rpartition("/")[2]
            self._full_names[alone] = None if alone in self._full_names else known
        self._alone = FileNames(self._full_names)

    def of(self, source: str | Path) -> int:
        """The id of an image; the longest tail of its path that is known decides.

        Raises:
            DataError: no image has this name.

        """
        name = self._names.find_tail(str(source))
        if name is None:
            # The file may know folders that are not there, as data sets may.
            alone = self._alone.find(with_slashes(str(source)).rpartition("/")[2])
            name = None if alone is None else self._full_names[alone]
        if name is None:
            close = self._names.close_to(with_slashes(str(source)).rpartition("/")[2])
            hint = f"; did you mean {close}?" if close else ""
            raise DataError(f"{source}: no image of this name among the {len(self._ids)} of the annotation file{hint}")
        return self._ids[name]


def whole_number(value: Any) -> int | None:
    """Return ``value`` as an integer, even if it is written 80.0; None if it is not an integer."""
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is float:
        return int(value) if value.is_integer() else None
    if kind is bool or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    return whole_number(float(value))


def finite_number(value: Any) -> float | None:
    """Return ``value`` as a float; None if it is not a number, not finite, or beyond the range of floats."""
    if type(value) is not float:
        if type(value) is bool or not isinstance(value, Real):
            return None
        try:
            value = float(value)
        except OverflowError:
            return None
    return value if value - value == 0 else None


def shown(value: Any) -> str:
    """A value of a file in a message: its beginning, or what it is."""
    if isinstance(value, str):
        return repr(value[:_SHOWN] + ("..." if len(value) > _SHOWN else ""))
    if isinstance(value, bool | float) or value is None:
        return repr(value)
    if isinstance(value, int):
        if value.bit_length() > 256:
            return "a number of more than 70 digits"
        return repr(value)
    if isinstance(value, Sequence):
        plain = len(value) <= 8 and all(isinstance(item, int | float | str | None) for item in value)
        return f"[{', '.join(map(shown, value))}]"[: 4 * _SHOWN] if plain else f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"an object with the keys {', '.join(shown(key) for key in list(value)[:NAMED])}"
    if isinstance(value, Real):
        return str(value)[:_SHOWN]
    return f"a {type(value).__name__}"


def few(items: Sequence[object]) -> str:
    """The first items as text, and the number of the others."""
    more = f", and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(str(item)[:200] for item in items[:NAMED]) + more
