"""`protomask data convert`."""

from __future__ import annotations

from typing import Literal

EXAMPLE = "protomask data convert labelled/ dataset/ --split 0.8,0.2"
POSITIONAL = ("source", "output")


def run(
    source: str,
    output: str,
    *,
    from_: Literal[
        "auto", "coco", "yolo", "labelme", "voc", "via", "cvat", "label-studio", "supervisely", "panoptic", "masks"
    ] = "auto",
    to: Literal["coco", "yolo", "labelme", "voc", "masks", "label-maps"] = "coco",
    class_names: list[str] | None = None,
    image_dir: str | None = None,
    split: list[float] | None = None,
    seed: int = 0,
    group_by: str | None = None,
    link_images: bool = False,
    skip_missing: bool = False,
    keep_boxes: bool = False,
    json: bool = False,
) -> int:
    """Turn a data set into another format, split it, or both.

    Args:
        source: folder of the data set, or its annotation file.
        output: folder to create; nothing is left there if the conversion fails.
        from_: format of the source; auto looks at the files.
        to: format to write; masks is one PNG per object, label-maps one per image.
        class_names: class names in label order, for example cat,dog; for sources that only have numbers, or to change
            the order.
        image_dir: folder of the images, if they are not near the annotation file.
        split: shares of the images for train and val, or train, val and test, for example 0.8,0.2 or 80,20; splits of
            the source are merged first. Every class gets its share where possible.
        seed: seed of the split; another seed gives another split.
        group_by: regular expression; images whose file names give the same match go to the same split, for example
            ^[^_]+ for everything before the first underscore.
        link_images: make hard links to the images instead of copies.
        skip_missing: leave out images that are listed but missing, and count them, instead of failing.
        keep_boxes: keep objects of a COCO or YOLO data set that have a box and no outline, to learn masks from boxes
            alone; without it COCO's are left out, and YOLO's are an error.
        json: print one JSON summary instead of text.
    """
    import sys
    from dataclasses import asdict

    from protomask.cli.output import dump_json, progress
    from protomask.files import check_exists

    check_exists(source)
    from protomask.data.formats.convert import convert_dataset

    with progress("convert", None, quiet=json, lines=True) as bar:
        done = convert_dataset(
            source,
            output,
            source_format=from_,
            output_format=to,
            class_names=class_names,
            image_dir=image_dir,
            split=split or (),
            seed=seed,
            group_by=group_by,
            link_images=link_images,
            skip_missing=skip_missing,
            keep_boxes=keep_boxes,
            progress=bar.update,
        )
    if json:
        dump_json({**asdict(done), "output": str(done.output)})
        return 0
    for remark in done.remarks:
        print(f"note: {remark}", file=sys.stderr)
    if not any(done.objects.values()):
        print("note: no image has an object, so nothing can be learned from this data set", file=sys.stderr)
    print(f"{source}: {done.source_format} ({done.evidence})")
    counts = ", ".join(f"{name} {done.images[name]} images with {done.objects[name]} objects" for name in done.images)
    classes = "1 class" if len(done.class_names) == 1 else f"{len(done.class_names)} classes"
    print(f"{done.output}: {done.output_format}, {classes}, {counts}")
    if list(done.images) == ["train"]:
        print("all images are in one split; --split 0.8,0.2 makes a validation split")
    return 0
