"""Everything that readers of annotation files repair, warn of or refuse, in words, and the page about it.

``docs/odd-data.md`` is what `catalogue_page` gives; a test holds the table to what the code can say.
"""

from __future__ import annotations

from typing import NamedTuple

from protomask.data.doctor.problems import SEVERITIES, Severity


class Repair(NamedTuple):
    """Something odd that is read all the same.

    Attributes:
        odd: what the file holds.
        outcome: what becomes of it.
        says: part of the warning about it; empty where nothing is lost and nothing is said.

    """

    odd: str
    outcome: str
    says: str = ""


class Rule(NamedTuple):
    """A kind of problem that the check reports.

    Attributes:
        severity: see `SEVERITIES`.
        kind: name in the report.
        meaning: what is wrong, or odd.

    """

    severity: Severity
    kind: str
    meaning: str


REPAIRS = (
    Repair("a byte order mark, UTF-16 or UTF-32", "read"),
    Repair("`iscrowd` missing or null", "0"),
    Repair("`area` missing or null", "counted in the mask"),
    Repair("`area` that is not a number, or below 0", "counted in the mask", "is not an area, taken from the mask"),
    Repair("`bbox` missing or null", "taken from the mask"),
    Repair("`bbox` not finite or without area", "taken from the mask", "has no area, taken from the mask"),
    Repair(
        "`bbox` that disagrees with the mask", "taken from the mask", "disagrees with the mask, taken from the mask"
    ),
    Repair("`bbox` that reaches outside the image", "cut off", "reaches outside the image, clipped"),
    Repair("ids and sizes as floats (80.0), integers of any width", "read as integers"),
    Repair("`segmentation` missing, null, `[]` or `{}`", "the object is dropped", "no segmentation, dropped"),
    Repair(
        "a polygon with fewer than three points, or with half a point",
        "the polygon is dropped",
        "expected at least 3 points",
    ),
    Repair("coordinates that are NaN, infinite or beyond 100,000 px", "the object is dropped", "absurdly large"),
    Repair(
        "an outline longer than an image of this size can hold",
        "the object is dropped",
        "the outline is longer than any",
    ),
    Repair("a mask without pixels", "the object is dropped", "empty mask"),
    Repair("coordinates between 0 and 1", "the object is dropped", "all coordinates lie between 0 and 1"),
    Repair("an RLE whose size is not that of the image", "scaled, or cut and padded", "the RLE is"),
    Repair(
        "an image file whose size is not the one in the JSON", "annotations scaled, or cut and padded", "the file is"
    ),
    Repair(
        "a category without objects that has the same name as another one",
        "left out",
        "has the same name as another one",
    ),
    Repair(
        "a category without objects that is the `supercategory` of all others and has the supercategory `none`",
        "left out",
        "is the parent of all others",
    ),
    Repair(
        "a file name that differs in slashes, Unicode form, percent-encoding or case", "found, if only one file fits"
    ),
    Repair("a file name with folders that do not exist", "found by the last part of the name"),
    Repair("an image in a folder below the one it should be in", "found, if only one file has its name"),
)
"""The same for training, evaluation, prediction with the ids of a file, conversion and the check."""

RULES = (
    Rule("error", "annotation file", "the file cannot be read, is not JSON, or lacks a list"),
    Rule("error", "entry", "an entry of a list is not an object"),
    Rule("error", "image key", "an image lacks id, file_name, width or height"),
    Rule("error", "image id", "an image id is not an integer"),
    Rule("error", "image id twice", "two images have the same id"),
    Rule("error", "file_name", "a name is empty, absolute, too long, holds NUL, or leaves the folder with `..`"),
    Rule("error", "image size", "a width or height is not positive, or larger than any image that can be read"),
    Rule("error", "image folder", "the folder of the images does not exist"),
    Rule("error", "missing files", "image files do not exist; the message names the nearest file"),
    Rule("error", "unreadable image", "an image file is empty, damaged, a dead link, or in an unsupported format"),
    Rule("error", "category", "a category lacks an integer id or a name"),
    Rule("error", "category id twice", "two categories have the same id"),
    Rule("error", "category name twice", "two categories with objects have the same name"),
    Rule("error", "class names", "the class names of two files differ"),
    Rule("error", "annotation key", "an annotation lacks id, image_id or category_id"),
    Rule("error", "annotation id", "an annotation id is not an integer"),
    Rule("error", "annotation id twice", "two annotations have the same id"),
    Rule("error", "unknown image", "an annotation refers to an image that is not in the file"),
    Rule("error", "unknown category", "an annotation refers to a category that is not in the file"),
    Rule("error", "bbox", "a bbox is not four numbers"),
    Rule("error", "iscrowd", "iscrowd is neither 0 nor 1"),
    Rule("error", "polygons", "a polygon is not a list of numbers, for example pairs of points"),
    Rule("error", "RLE", "a segmentation is neither polygons nor a run-length code"),
    Rule("error", "RLE size", "the size of a run-length code is impossible, or far larger than the image"),
    Rule("error", "RLE counts", "the runs of a code do not add up to its size"),
    Rule("error", "segmentation", "a run-length code is damaged"),
    Rule("error", "masks too large", "the masks of one image take more than 8 GiB: cut it into tiles"),
    Rule("error", "no object", "the training images have no objects; crowd regions do not count"),
    Rule("error", "no image", "the training split lists no images"),
    Rule(
        "warning", "EXIF orientation", "annotations are read as those of the stored image, but programs show it upright"
    ),
    Rule("warning", "crowds", "many annotations, or all of a class, are crowd regions, from which nothing is learned"),
    Rule("warning", "image of another size", "an image file differs from the JSON in size but not in aspect ratio"),
    Rule("warning", "image of another shape", "an image file differs from the JSON in aspect ratio"),
    Rule("warning", "file named twice", "two images name the same file"),
    Rule("warning", "image in both splits", "a validation image is also a training image"),
    Rule("warning", "similar images in both splits", "a validation image looks like a training image"),
    Rule("warning", "outline outside the image", "an outline leaves the image and is cut off there"),
    Rule("warning", "object twice", "the same object is annotated twice"),
    Rule("warning", "object of two classes", "one mask has two classes"),
    Rule("warning", "classes spelled alike", "two class names differ only by case, spaces or punctuation"),
    Rule("warning", "class only in val", "a class has no training objects, so it cannot be learned"),
    Rule("warning", "class only in train", "a class has no validation objects, so it cannot be measured"),
    Rule("warning", "tiny object", "objects are too small for the network at its input size"),
    Rule("warning", "more objects than detections", "an image has more objects than the network can find"),
    Rule("warning", "anchors", "the anchors of the network do not fit the objects"),
    Rule("note", "file name spelled differently", "a file was found under a different spelling of its name"),
    Rule("note", "file in another folder", "a file was found in a folder below the one in its name"),
    Rule("note", "category without objects", "a category without objects that is a parent of the classes was left out"),
    Rule("note", "class without objects", "a class has no objects in either split"),
    Rule("note", "category ids differ", "the splits number the classes differently; names decide"),
    Rule("note", "crowd", "crowd regions: they excuse detections, and nothing is learned from them"),
    Rule("note", "parts", "masks with several parts"),
    Rule("note", "holes", "masks with holes"),
    Rule("note", "whole image", "a mask covers the whole image"),
    Rule("note", "image without objects", "images without objects"),
    Rule("note", "image twice", "two files hold the same image"),
    Rule("note", "file without entry", "image files that the annotation file does not name"),
)
"""Kinds of problems; warnings about repairs have the words of `REPAIRS` instead."""

_HEADINGS: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
_INTRODUCTION = """# What happens to odd data

Annotation files come from many tools, and few follow the format to the letter. Training, evaluation, prediction with
the ids of a file, conversion and the check all read them with one schema and one list of repairs. Every command accepts
what `protomask data check` accepts and understands it the same way, and evaluation does not count what training drops.
A warning names the file, image and annotation of everything that is dropped or changed.

This page is generated from the code (`protomask.data.doctor.catalogue`).

## Repairs
"""
_ORIENTATION = """
## Images that are stored rotated

Phones store images as the sensor recorded them, with an EXIF orientation that says how to rotate them. Annotations may
belong to the stored image or to the upright one. The size in the JSON decides: if it is that of the upright image and
not that of the stored one, the image is rotated. If it is that of the stored image, or if both have the same size (half
turns, mirrored and square images), the image is read as stored. The check then warns, because most programs show such
an image upright, and predictions are made on the upright image. A data set can state what is right in the YAML that
names its four paths: `exif_orientation: upright` (annotations belong to the upright image, whatever the size in the
JSON) or `exif_orientation: stored`.

## Results

- Masks that differ from the image in size but not in aspect ratio are scaled, with a warning; any other size is an
  error.
- Rows beside an `images.json` that numbers images or classes differently from the annotation file are matched by name,
  with a warning; an image that the annotation file does not name is an error.
- A damaged row is an error that names it: `results[3] (image id 7)`.

## Limits

Nothing is decoded that is larger than the file and the image can explain: outlines are cut off at the image before they
are rasterised, run-length codes are added up before they become pixels, a mask file that differs in size from its image
is not opened, and masks from labelling tools that are far larger than their image are refused before they are unpacked.
Only image formats are read, and a file's content decides, not its name. Paths in annotation files and lists can lead
only to files of the data set.
"""


def catalogue_page() -> str:
    """The page ``docs/odd-data.md``."""
    lines = [_INTRODUCTION, "| in the file | what happens to it | warning |", "|---|---|---|"]
    lines += [f"| {odd} | {outcome} | {f'“… {says} …”' if says else ''} |" for odd, outcome, says in REPAIRS]
    for severity in SEVERITIES:
        lines += ["", f"## {_HEADINGS[severity]}", "", "| kind | meaning |", "|---|---|"]
        lines += [f"| {rule.kind} | {rule.meaning} |" for rule in RULES if rule.severity == severity]
    return "\n".join(lines) + "\n" + _ORIENTATION
