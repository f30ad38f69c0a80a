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
    Repair("`area` that is no number, or below 0", "counted in the mask", "is no area, taken from the mask"),
    Repair("`bbox` missing or null", "taken from the mask"),
    Repair("`bbox` not finite or without area", "taken from the mask", "has no area, taken from the mask"),
    Repair(
        "`bbox` that disagrees with the mask", "taken from the mask", "disagrees with the mask, taken from the mask"
    ),
    Repair("`bbox` that reaches outside the image", "cut off", "reaches outside the image, clipped"),
    Repair("ids and sizes as floats (80.0), integers of any width", "read as integers"),
    Repair("`segmentation` missing, null, `[]` or `{}`", "the object is dropped", "no segmentation, dropped"),
    Repair("a polygon of less than three points, or half a point", "it is dropped", "expected at least 3 points"),
    Repair("coordinates that are NaN, infinite or beyond 100,000 px", "the object is dropped", "absurdly large"),
    Repair("an outline longer than any in such an image", "the object is dropped", "the outline is longer than any"),
    Repair("a mask without a pixel", "the object is dropped", "empty mask"),
    Repair("coordinates between 0 and 1", "the object is dropped", "all coordinates lie between 0 and 1"),
    Repair("an RLE of another size than the image", "scaled, or cut and padded", "the RLE is"),
    Repair("an image file of another size than the JSON says", "annotations scaled, or cut and padded", "the file is"),
    Repair("a category without objects that has the name of another one", "left out", "has the name of another one"),
    Repair(
        "a category without objects that is the `supercategory` of all others, its own being `none`",
        "left out",
        "is the parent of all others",
    ),
    Repair("a file name with other slashes, Unicode form, percent-encoding or case", "found, if only one file fits"),
    Repair("a file name with folders that are not there", "found by its last part"),
    Repair("an image in a folder below the one it should be in", "found, if only one file has its name"),
)
"""The same for training, evaluation, prediction with the ids of a file, conversion and the check."""

RULES = (
    Rule("error", "annotation file", "the file cannot be read, is no JSON, or lacks a list"),
    Rule("error", "entry", "an entry of a list is no object"),
    Rule("error", "image key", "an image lacks id, file_name, width or height"),
    Rule("error", "image id", "an image id is no integer"),
    Rule("error", "image id twice", "two images have one id"),
    Rule("error", "file_name", "a name is empty, absolute, too long, holds NUL, or leaves the folder with `..`"),
    Rule("error", "image size", "a width or height is not positive, or larger than any image that can be read"),
    Rule("error", "image folder", "the folder of the images does not exist"),
    Rule("error", "missing files", "image files do not exist; the message names the nearest file"),
    Rule("error", "unreadable image", "an image file is empty, damaged, a dead link or in a format that is not read"),
    Rule("error", "category", "a category lacks an integer id or a name"),
    Rule("error", "category id twice", "two categories have one id"),
    Rule("error", "category name twice", "two categories with objects have one name"),
    Rule("error", "class names", "the class names of two files differ"),
    Rule("error", "annotation key", "an annotation lacks id, image_id or category_id"),
    Rule("error", "annotation id", "an annotation id is no integer"),
    Rule("error", "annotation id twice", "two annotations have one id"),
    Rule("error", "unknown image", "an annotation belongs to no image of the file"),
    Rule("error", "unknown category", "an annotation belongs to no category of the file"),
    Rule("error", "bbox", "a bbox is not four numbers"),
    Rule("error", "iscrowd", "iscrowd is neither 0 nor 1"),
    Rule("error", "polygons", "a polygon is no list of numbers, for example pairs of points"),
    Rule("error", "RLE", "a segmentation is neither polygons nor a run-length code"),
    Rule("error", "RLE size", "the size of a run-length code is none, or far larger than the image"),
    Rule("error", "RLE counts", "the runs of a code do not add up to its size"),
    Rule("error", "segmentation", "a run-length code is damaged"),
    Rule("error", "masks too large", "the masks of one image take more than 8 GiB: cut it into tiles"),
    Rule("error", "no object", "the training images have no object; crowd regions are none"),
    Rule("error", "no image", "the training split lists no image"),
    Rule(
        "warning", "EXIF orientation", "annotations are taken to lie on the stored image, and programs show it turned"
    ),
    Rule("warning", "crowds", "many annotations, or all of a class, are crowd regions, from which nothing is learned"),
    Rule("warning", "image of another size", "an image file is of another size, with the same aspect ratio"),
    Rule("warning", "image of another shape", "an image file has another aspect ratio than the JSON says"),
    Rule("warning", "file named twice", "two images name one file"),
    Rule("warning", "image in both splits", "a validation image is also a training image"),
    Rule("warning", "similar images in both splits", "a validation image looks like a training image"),
    Rule("warning", "outline outside the image", "an outline leaves the image and is cut off there"),
    Rule("warning", "object twice", "the same object is annotated twice"),
    Rule("warning", "object of two classes", "one mask has two classes"),
    Rule("warning", "classes spelled alike", "two class names differ by case, spaces or punctuation only"),
    Rule("warning", "class only in val", "a class cannot be learned"),
    Rule("warning", "class only in train", "a class cannot be measured"),
    Rule("warning", "tiny object", "objects are too small for the network at its input size"),
    Rule("warning", "more objects than detections", "an image has more objects than the network can find"),
    Rule("warning", "anchors", "the anchors of the network do not fit the objects"),
    Rule("note", "file name spelled otherwise", "a file was found in another spelling of its name"),
    Rule("note", "file in another folder", "a file was found in a folder below the one that its name says"),
    Rule("note", "category without objects", "a parent of the classes that has no object was left out"),
    Rule("note", "class without objects", "a class has no object in either split"),
    Rule("note", "category ids differ", "the splits number the classes differently; names decide"),
    Rule("note", "crowd", "crowd regions: they excuse detections, and nothing is learned from them"),
    Rule("note", "parts", "masks of several parts"),
    Rule("note", "holes", "masks with holes"),
    Rule("note", "whole image", "a mask covers the whole image"),
    Rule("note", "image without objects", "images without an object"),
    Rule("note", "image twice", "two files hold the same image"),
    Rule("note", "file without entry", "image files that the annotation file does not name"),
)
"""Kinds of problems; warnings about repairs have the words of `REPAIRS` instead."""

_HEADINGS: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
_INTRODUCTION = """# What happens to odd data

Annotation files come from many tools, and few follow the format to the letter. Training, evaluation, prediction with
the ids of a file, conversion and the check read them by one schema with one list of repairs: what
`protomask data check` accepts, every command accepts in the same sense, and what training drops, evaluation does not
count. A warning names the file, image and annotation of everything that is dropped or changed.

This page is made from the code (`protomask.data.doctor.catalogue`).

## Repairs
"""
_ORIENTATION = """
## Images that are stored turned

Phones store images as the sensor gave them, with an EXIF orientation that says how to turn them. Annotations may lie on
either. The size in the JSON decides: if it is that of the turned image and not that of the stored one, the image is
turned. Where it is that of the stored image, or cannot tell (half turns, mirrored and square images), the image is read
as it is stored, and the check warns, because most programs show it turned, and predictions are made so. A data set can
say what is right: in the YAML that names its four paths, `exif_orientation: upright` (annotations lie on the turned
image, whatever size the JSON says) or `exif_orientation: stored`.

## Results

- Masks of another size than the image, with its aspect ratio, are scaled, with a warning; others are an error.
- Rows beside an `images.json` that numbers images or classes otherwise than the annotation file are matched by name,
  with a warning; an image that the annotation file does not name is an error.
- A damaged row is an error that names it: `results[3] (image id 7)`.

## Limits

Nothing is decoded that is larger than the file and the image explain: outlines are cut off at the image before they are
rasterised, run-length codes are added up before they become pixels, a mask file of another size than its image is not
opened, and masks of labelling tools that are far larger than their image are refused before they are unpacked. Only
image formats are read, by their content, whatever a file is called. Paths in annotation files and lists lead to files
of the data set only.
"""


def catalogue_page() -> str:
    """The page ``docs/odd-data.md``."""
    lines = [_INTRODUCTION, "| in the file | what becomes of it | warning |", "|---|---|---|"]
    lines += [f"| {odd} | {outcome} | {f'“… {says} …”' if says else ''} |" for odd, outcome, says in REPAIRS]
    for severity in SEVERITIES:
        lines += ["", f"## {_HEADINGS[severity]}", "", "| kind | meaning |", "|---|---|"]
        lines += [f"| {rule.kind} | {rule.meaning} |" for rule in RULES if rule.severity == severity]
    return "\n".join(lines) + "\n" + _ORIENTATION
