"""Peak memory of one model, measured in a process of its own so that nothing else is counted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from protomask.bench.latency import time_prediction
from protomask.bench.machine import limit_threads, loaded_torch
from protomask.bench.models import ModelSpec
from protomask.errors import ProtomaskError
from protomask.memory import peak_mib


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
    spec: ModelSpec,
    images: Sequence[Path],
    *,
    device: str = "auto",
    threads: int | None = None,
    score_threshold: float = 0.3,
) -> MemoryUse:
    """Load a model in a fresh process and predict each image once, one by one.

    Args:
        spec: the model.
        images: files.
        device: as in `protomask.load`.
        threads: maximum number of threads of the runtime; its own choice by default.
        score_threshold: find only what scores above this.

    Raises:
        ProtomaskError: whatever loading or predicting raises, or the process died.

    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_use_memory, spec, list(images), device, threads, score_threshold).result()
        except BrokenProcessPool as error:
            raise ProtomaskError(f"{spec}: the process that measures its memory died; was there too little?") from error


def _use_memory(
    spec: ModelSpec, images: Sequence[Path], device: str, threads: int | None, score_threshold: float
) -> MemoryUse:
    predictor = spec.load(device, threads=threads)
    limit_threads(threads)
    loaded = peak_mib()
    for path in images:
        time_prediction(predictor, path, score_threshold=score_threshold)
    torch = loaded_torch()
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch is not None and torch.cuda.is_available() else 0
    return MemoryUse(loaded_mib=loaded, peak_mib=peak_mib(), gpu_peak_mib=gpu or None)
