"""Comparison of two splits of a data set: classes, and images that are in both."""

from __future__ import annotations

import re
from collections import defaultdict

from protomask.data.doctor.problems import NAMED, Findings
from protomask.data.doctor.similar_images import similar_pairs
from protomask.data.doctor.split import Split


def check_class_names(train: Split, other: Split, findings: Findings) -> bool:
    """Whether the class names of the training split and another one are the same."""
    names, other_names = train.dataset.class_names, other.dataset.class_names
    only = [sorted(set(names) - set(other_names)), sorted(set(other_names) - set(names))]
    if any(only):
        shown = "; ".join(
            f"only in {split}: {', '.join(map(repr, found[:NAMED]))}{', ...' if len(found) > NAMED else ''}"
            for split, found in zip((train.name, other.name), only, strict=True)
            if found
        )
        findings.add("error", "class names", "", f"the class names of the two splits differ; {shown}")
    return not any(only)


def check_classes(train: Split, val: Split, findings: Findings) -> None:
    """Look at class names that are almost the same, and at which classes have objects."""
    names, other_names = train.dataset.class_names, val.dataset.class_names
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[re.sub(r"[\W_]+", "", name).casefold() or name].append(name)
    for alike in spellings.values():
        if len(alike) > 1:
            text = "spelled almost alike: are they one class?"
            findings.add("warning", "classes spelled alike", f"classes {' and '.join(map(repr, alike))}", text)
    id_of, other_id_of = (
        dict(zip(part.class_names, part.category_ids, strict=True)) for part in (train.dataset, val.dataset)
    )
    if id_of != other_id_of:
        findings.add("note", "category ids differ", "", "the two splits number the classes differently; names count")
    any_learned, any_measured = (any(split.count(label) for label in range(len(names))) for split in (train, val))
    for label, name in enumerate(names):
        learned, measured = train.count(label), val.count(other_names.index(name))
        if not learned and not measured:
            findings.add("note", "class without objects", f"class {name}", "no object in either split")
        elif not learned and any_learned:
            text = f"no object in train ({measured} in val), so it cannot be learned"
            findings.add("warning", "class only in val", f"class {name}", text)
        elif not measured and any_measured:
            text = f"no object in val ({learned} in train), so its AP cannot be measured"
            findings.add("warning", "class only in train", f"class {name}", text)


def check_leakage(one: Split, other: Split, findings: Findings) -> None:
    """Look for images in both splits: the same file, or one that looks the same."""
    of_digest = {read.digest: index for index, read in one.fingerprints.items()}
    same = [(of_digest[read.digest], index) for index, read in other.fingerprints.items() if read.digest in of_digest]
    similar = similar_pairs(list(one.fingerprints.values()), list(other.fingerprints.values()))
    indices, other_indices = list(one.fingerprints), list(other.fingerprints)
    near = [(indices[first], other_indices[second]) for first, second in similar]
    for kind, pairs, text in (
        ("image in both splits", same, "the same image in both splits makes validation look better than it is"),
        (
            "similar images in both splits",
            near,
            "images in both splits that look the same: is one a copy of the other?",
        ),
    ):
        for first, second in pairs:
            findings.add("warning", kind, f"{one.name} {one.place(first)} and {other.name} {other.place(second)}", text)
