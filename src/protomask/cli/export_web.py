"""`protomask export --format web`: a page that runs the model in the browser."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protomask.exporting.agreement import Agreement

AFTERWARDS = "to see it here: python -m http.server --directory {folder} 8000, then http://localhost:8000"


def export_page(
    model: str,
    weights: str | None,
    folder: Path,
    settings: dict[str, Any],
    *,
    is_changed: bool,
    runtime_files: str | None,
    quiet: bool,
) -> tuple[str, Agreement | None]:
    """Write the page of a model: its name, and how the exported file agrees with it, where one was made.

    Args:
        model: as `protomask.cli.export.run` has it.
        weights: likewise.
        folder: to write.
        settings: of `protomask.export`.
        is_changed: the settings ask for a file other than the ready one.
        runtime_files: see `protomask.serve.site.write_site`.
        quiet: print nothing.

    """
    from protomask.errors import ConfigError
    from protomask.models.naming import find_model
    from protomask.runtimes.shipped import SHIPPED, shipped_file
    from protomask.serve.site import check_folder, write_site

    check_folder(folder)
    name = Path(weights or model).stem
    samples = _samples(settings["images"])
    agreement = None
    if weights is None and find_model(model).kind == "exported":
        if is_changed:
            raise ConfigError(f"model: expected a name or weights where the graph is to change, got {model}")
        write_site(folder, {name: Path(model)}, runtime=runtime_files, samples=samples)
    elif model in SHIPPED and not is_changed:
        with shipped_file(model) as path:
            write_site(folder, {name: path}, runtime=runtime_files, samples=samples)
    else:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / f"{name}.onnx"
            agreement = _export(model, weights, path, settings, quiet=quiet)
            write_site(folder, {name: path}, runtime=runtime_files, samples=samples)
    if not quiet:
        print(AFTERWARDS.format(folder=folder))
    return name, agreement


def _export(model: str, weights: str | None, path: Path, settings: dict[str, Any], *, quiet: bool) -> Agreement:
    """Export as candidates, which are faster in a browser, unless the model has none."""
    from protomask.cli.export_file import write_file
    from protomask.errors import ConfigError

    if settings["form"] is not None:
        return write_file(model, weights, path, settings, quiet=quiet)[1]
    try:
        return write_file(model, weights, path, {**settings, "form": "candidates"}, quiet=quiet)[1]
    except ConfigError as error:
        if not str(error).startswith("form: "):
            raise
    return write_file(model, weights, path, settings, quiet=quiet)[1]


def _samples(images: str | None) -> list[Path]:
    """Images that the page offers: those that the file was verified with."""
    from protomask.inference.paths import iter_image_paths

    return [] if images is None else list(iter_image_paths([images]))
