"""Runs on several machines whose folders are their own: all of them begin with the newest saved state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from protomask.engine.folder import RunFolder
from protomask.errors import CheckpointError
from protomask.files import replacing

if TYPE_CHECKING:
    from accelerate import Accelerator


def share_run(accelerator: Accelerator, folder: RunFolder) -> None:
    """Give every process the newest saved state that any of them has, and what belongs to it.

    Only the first process saves. After a restart another one may be the first, on a machine whose folder has an older
    state or none. Where all processes see one folder, nothing is sent.

    Raises:
        CheckpointError: a state cannot be read or written.

    """
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast_object_list, gather_object

    own = _saved_iteration(folder)
    known = gather_object([own])
    newest = max(known)
    if min(known) == newest:
        return
    source = known.index(newest)
    sent = [_read(folder) if accelerator.process_index == source else None]
    [content] = broadcast_object_list(sent, from_process=source)
    if own < newest:
        for name, data in content.items():
            with replacing(folder.path / name, error=CheckpointError) as file:
                file.write(data)


def _saved_iteration(folder: RunFolder) -> int:
    """Steps done at the saved state; -1 where there is none."""
    path = folder.state_file
    if not path.is_file():
        return -1
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(state["progress"]["iteration"])
    except Exception as error:  # a damaged archive surfaces as almost any exception
        raise CheckpointError(f"{path}: expected the state of this run: {error}") from error


def _read(folder: RunFolder) -> dict[str, bytes]:
    """Content of the files from which a run continues, by their names in its folder."""
    paths: list[Path] = [folder.state_file, folder.best_weights, folder.settings_file, folder.path / "metrics.jsonl"]
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in paths if path.is_file()}
