from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Threads of small networks wait for each other longer than they compute. Read when PyTorch is imported, here and in
# processes that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine that runs the tests in the background may have told them to ignore Ctrl-C (as nohup does for SIGHUP), and a
# run that inherits this goes on ignoring it. Tests send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parents[1]

# In continuous integration a run gives the same result each time; elsewhere Hypothesis looks for new examples.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "search")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numeric goldens that are part of the repository."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images, which are not part of the repository: $PROTOMASK_DATA or ../shared/data."""
    path = Path(os.environ.get("PROTOMASK_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real images not found at {path}: set PROTOMASK_DATA")
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch with one thread, as processes that a test starts have it; see `two_threads`."""
    yield from _threads(1)


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """PyTorch with two threads, whatever the machine has: another number adds up, and rounds, in another way."""
    yield from _threads(2)


def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a worker process of the tests ended that did not end in order: by which signal, or by which exit code."""
    if error is not None:
        process = node.gateway._io.popen
        print(f"worker {node.gateway.id} ended with {process.wait(30)}", file=sys.stderr)
