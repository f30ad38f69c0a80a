"""`protomask verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from protomask.runtimes.verification import Verification

EXAMPLE = "protomask verify mine.onnx"
POSITIONAL = ("file",)


def run(
    file: str,
    *,
    runtime: Literal["auto", "onnx", "openvino"] = "auto",
    threads: int | None = None,
    json: bool = False,
) -> int:
    """Check that an exported file does here what it did where it was written.

    The file is run on an image that is stored in it, and its outputs are compared with those that PyTorch had for it.
    The exit code is 1 if one differs by more than rounding.

    Args:
        file: file of protomask export.
        runtime: what runs it; auto takes what its ending stands for.
        threads: maximum number of threads of ONNX Runtime or OpenVINO; all cores by default.
        json: print one JSON document instead of text.
    """
    from protomask.api import verify
    from protomask.cli.output import dump_json

    verification = verify(file, runtime=runtime, threads=threads)
    if json:
        dump_json(verification.to_dict())
    else:
        _print(verification)
    return 0 if verification.passed else 1


def _print(verification: Verification) -> None:
    from protomask.cli.output import print_table

    rows = [
        [name, f"{size:.1e}", "differs" if name in verification.failed else "same"]
        for name, size in verification.differences.items()
    ]
    print_table(["output", "largest difference", ""], rows)
    reference = "PyTorch" if verification.source == "pytorch" else "the file when it was written"
    batches = " and ".join(str(size) for size in verification.batches)
    outcome = "passed" if verification.passed else "FAILED"
    print(f"{verification.file}: {outcome} (in {verification.runtime}, against {reference}, batches of {batches})")
