"""From the arguments of `protomask export` to one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.exporting.agreement import Agreement


def write_file(
    model: str, weights: str | None, path: Path, settings: dict[str, Any], *, quiet: bool
) -> tuple[str, Agreement]:
    """Export what the arguments name: the name of the model, and how the file agrees with it.

    Args:
        model: as `protomask.cli.export.run` has it.
        weights: likewise.
        path: file to write.
        settings: of `protomask.export`; where ``form`` is None, ``path`` says what is best for it.
        quiet: show no progress.

    """
    from protomask.api import export, load
    from protomask.cli.output import progress

    _check_names(weights or model, path, settings["images"], settings["data"])
    predictor = load(weights or model, runtime="torch", model=model if weights else None, device="cpu")
    form = settings["form"] or "detections"
    with progress("AP", None, quiet=quiet or settings["data"] is None) as bar:
        return predictor.model_name, export(predictor, path, **{**settings, "form": form}, on_progress=bar.update)


def _check_names(source: str, output: Path, images: str | None, data: str | None) -> None:
    """Names and paths first: nothing heavy is imported for a wrong one."""
    from protomask.data.coco.layout import open_dataset
    from protomask.errors import ConfigError
    from protomask.extras import require_torch
    from protomask.files import check_writable
    from protomask.inference.sources import open_source
    from protomask.models.naming import find_model

    require_torch("protomask export")
    if find_model(source).kind == "exported":
        raise ConfigError(f"model: expected a name or weights to export, got the exported file {source}")
    if images is not None:
        open_source(images)
    if data is not None:
        open_dataset(data, ("val",))
    check_writable(output, "output")
