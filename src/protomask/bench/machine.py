"""The machine that something is measured on, described without loading PyTorch."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_RUNTIMES = ("torch", "torchvision", "onnxruntime", "openvino")


def describe_machine() -> dict[str, Any]:
    """Where and when something is measured: processor, cores, threads, memory, versions, date; plain JSON types.

    Threads are those of PyTorch where it is loaded; else the cores that this process may use, as other runtimes take
    all of them. The GPU is that of PyTorch, too.
    """
    memory, torch = _memory_bytes(), loaded_torch()
    gpu = {"gpu": torch.cuda.get_device_name()} if torch is not None and torch.cuda.is_available() else {}
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": available_cores() if torch is None else torch.get_num_threads(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        **gpu,
        "system": platform.system(),
        "python": platform.python_version(),
        **_versions(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def available_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loaded_torch() -> Any | None:
    """The module ``torch`` if something has imported it; what needs no PyTorch is measured without it."""
    return sys.modules.get("torch")


def limit_threads(threads: int | None) -> None:
    """Let PyTorch use this many threads; does nothing if it is not loaded, or for None."""
    torch = loaded_torch()
    if threads is not None and torch is not None:
        torch.set_num_threads(threads)


def _versions() -> dict[str, str]:
    from protomask import __version__

    found = {"protomask": __version__}
    for name in _RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
