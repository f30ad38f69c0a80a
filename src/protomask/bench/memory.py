"""Peak memory of one model, measured in a process of its own so that nothing else is counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from protomask.bench.latency import ModelSpec, time_prediction
from protomask.errors import ProtomaskError


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Peak memory in MiB.

    Attributes:
        loaded_mib: of the process after loading the model (Python and the libraries included); None on Windows.
        peak_mib: of the process after predictions.
        gpu_peak_mib: allocated by PyTorch on the GPU; None without one.

    """

    loaded_mib: float | None
    peak_mib: float | None
    gpu_peak_mib: float | None


def measure_memory(
    spec: ModelSpec, images: Sequence[Path], *, device: str, threads: int, options: Mapping[str, Any]
) -> MemoryUse:
    """Load a model in a fresh process and predict each image once, one by one.

    Args:
        spec: the model.
        images: files.
        device: as in `protomask.load`.
        threads: threads PyTorch may use.
        options: as in `ImagePredictor.predict`.

    Raises:
        ProtomaskError: whatever loading or predicting raises, or the process died.

    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_use_memory, spec, list(images), device, threads, dict(options)).result()
        except BrokenProcessPool as error:
            raise ProtomaskError(f"{spec}: the process that measures its memory died; was there too little?") from error


def _use_memory(
    spec: ModelSpec, images: Sequence[Path], device: str, threads: int, options: dict[str, Any]
) -> MemoryUse:
    torch.set_num_threads(threads)
    predictor = spec.load(device)
    loaded = _peak_mib()
    for path in images:
        time_prediction(predictor, path, **options)
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
    return MemoryUse(loaded_mib=loaded, peak_mib=_peak_mib(), gpu_peak_mib=gpu or None)


def _peak_mib() -> float | None:
    """Largest resident set of this process so far."""
    try:
        # Not getrusage: what it tells on Linux includes the process that started this one.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
