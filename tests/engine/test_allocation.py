import ctypes
import sys

import pytest
import torch

from protomask.engine.allocation import keeping_freed_memory

_HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def faults_of_blocks() -> int:
    """Pages that the system made for five blocks of 64 MiB, each given back before the next."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 << 20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(not _HAS_GLIBC, reason="needs glibc")
def test_large_blocks_are_handed_out_again_within_and_given_back_afterwards() -> None:
    plain = faults_of_blocks()
    with keeping_freed_memory():
        faults_of_blocks()
        kept = faults_of_blocks()
    assert kept < plain / 10
    assert faults_of_blocks() > plain / 2


def test_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="inside"), keeping_freed_memory():
        raise ValueError("inside")
