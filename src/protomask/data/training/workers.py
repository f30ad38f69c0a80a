"""Processes that load images: apart from the signals of their group, and with errors that read like any other."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from protomask.errors import ProtomaskError


def prepare_worker(_: int) -> None:
    """Set a loader process apart, with one thread.

    Ctrl-C, and a SIGTERM to the group of a run, are for the training process alone: it still needs its loaders to
    finish a step and save. They end with it, whatever ends it.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


class Failure:
    """An error on its way from a loader process, in the place of a sample or batch."""

    def __init__(self, error: Exception) -> None:
        if torch.utils.data.get_worker_info() is not None:
            # What is said with --debug; the traceback itself stays behind.
            text = "".join(traceback.format_exception(error)).rstrip()
            error = _portable(error)
            error.add_note(f"in a process that loads images:\n{text}")
        self.error = error


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same where it could not be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Carrying(Dataset[Any]):
    """A data set that gives a `Failure` where another one raises."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except Exception as error:
            return Failure(error)


def carry(collate: Callable[[Sequence[Any]], Any], samples: Sequence[Any]) -> Any:
    """Collate samples, or give the first `Failure` among them."""
    failed = next((sample for sample in samples if isinstance(sample, Failure)), None)
    if failed is not None:
        return failed
    try:
        return collate(samples)
    except Exception as error:
        return Failure(error)


class CarriedBatches:
    """The batches of a loader of a `Carrying` data set; raises what its processes could not."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                raise _of_dead_process(error) from error
            if isinstance(batch, Failure):
                raise batch.error
            yield batch


def _of_dead_process(error: RuntimeError) -> Exception:
    """What PyTorch says of a loader process that was killed, in words that help."""
    text = str(error)
    if "DataLoader worker" not in text:
        return error
    return ProtomaskError(
        "a process that loads images was killed, perhaps for lack of memory or shared memory "
        f"({text.splitlines()[0]}); fewer num_workers, or 0, need less"
    )
