"""Memory that this process has used."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_mib() -> float | None:
    """Largest resident set of this process so far, in MiB; None on Windows."""
    try:
        # Not getrusage: on Linux its number includes the process that started this one.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
