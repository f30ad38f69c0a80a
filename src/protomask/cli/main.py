"""The command line: picks the verb, reads its arguments, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from protomask.cli.codes import BAD_USAGE, DONE
from protomask.cli.streams import make_writable

# verb: (module of protomask.cli, one line of help). A verb's module is imported only when the verb is used.
VERBS: dict[str, tuple[str, str]] = {
    "predict": ("predict", "find instances in images and videos; write overlays, COCO JSON, polygons, label maps"),
    "track": ("track", "follow instances through videos, cameras and streams; write videos, tracks and events"),
    "bulk": ("bulk", "find instances in very many images, on this machine or a cluster, into Parquet files"),
    "serve": ("serve", "answer requests over HTTP, with a page to look with"),
    "train": ("train", "train a model on a COCO-format data set"),
    "tune": ("tune", "search for the training settings that learn a data set best"),
    "eval": ("evaluate", "measure COCO box and mask AP of a model or of a results file"),
    "report": ("report", "make the page of a training run again: curves, AP, confusion, images; or compare runs"),
    "bench": ("bench", "compare models by time, stage by stage, throughput, memory and AP"),
    "explain": ("explain", "show why a model found what it found in an image, as a page"),
    "explain padding": ("explain_padding", "show what the padding tells a model about place, on many images"),
    "calibrate": ("calibrate", "learn what the scores of a model mean, and write it into its file"),
    "export": (
        "export",
        "write one file from pixels to masks (ONNX, OpenVINO, PyTorch), or a page that runs it",
    ),
    "verify": ("verify", "check that an exported file does here what it did where it was written"),
    "convert": ("convert", "turn an official checkpoint into a .safetensors file"),
    "models": ("models", "list the models and where their weights come from"),
    "data check": ("check", "look for everything that is wrong in a data set before training does"),
    "data synth": ("synth", "render a synthetic data set of overlapping shapes"),
    "data shard": ("shard", "write a data set as Parquet files, which training reads in a stream"),
    "data convert": ("convert_data", "turn a data set into another format, or split it"),
    "data pseudo-label": ("pseudo_label", "add what a model is sure of to the annotations, for another training"),
    "demo": ("demo", "try shipped models on the sample images"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 1 failed work, 2 bad usage)."""
    make_writable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    words = 2 if " ".join(arguments[:2]) in VERBS else 1
    verb = " ".join(arguments[:words])
    if verb not in VERBS:
        return _top_level(arguments)
    from protomask.cli.arguments import run_verb

    module, summary = VERBS[verb]
    return run_verb(verb, import_module(f"protomask.cli.{module}"), summary, arguments[words:])


def _top_level(arguments: Sequence[str]) -> int:
    """Help, version, or a complaint about an unknown verb."""
    from protomask import __version__

    verbs = "\n".join(f"  {verb:<17}{summary}" for verb, (_, summary) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="protomask",
        usage="protomask VERB [options]   (protomask VERB --help says more)",
        description=f"Real-time instance segmentation.\n\nverbs:\n{verbs}",
        epilog="example: protomask predict street.jpg --save-dir out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"protomask {__version__}")
    if not arguments:
        parser.print_help()
        return BAD_USAGE
    first, *rest = arguments
    if not first.startswith("-"):
        nested = [verb for verb in VERBS if verb.startswith(f"{first} ")]
        if nested and rest[:1] in ([], ["-h"], ["--help"]):
            print("\n".join(f"protomask {verb}: {VERBS[verb][1]}" for verb in nested))
            return DONE if rest else BAD_USAGE
        given = " ".join([first, *rest[:1]]) if nested else first
        near = difflib.get_close_matches(given, VERBS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        print(f"protomask: no verb {given!r}{hint}; there are: {', '.join(nested or VERBS)}", file=sys.stderr)
        return BAD_USAGE
    try:
        parser.parse_args(list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_USAGE
    return BAD_USAGE


if __name__ == "__main__":
    sys.exit(main())
