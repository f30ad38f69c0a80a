from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: other tests would hide the peak of what follows.
MEMORY = """
from pathlib import Path
import numpy as np
from PIL import Image
from protomask.detection.prototypes import PrototypeMasks, PrototypeRows, PrototypeRule, detect, paint

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

rng = np.random.default_rng(0)
logits = 2 * rng.standard_normal((2000, 81), dtype=np.float32)
coefficients = np.tanh(rng.standard_normal((2000, 32), dtype=np.float32))
coarse = rng.standard_normal((32, 9, 9), dtype=np.float32)
grid = np.stack([np.asarray(Image.fromarray(one).resize((138, 138), Image.Resampling.BICUBIC)) for one in coarse], -1)
centre, half = rng.random((2000, 2), dtype=np.float32) * 0.5 + 0.1, rng.random((2000, 2), dtype=np.float32) / 4 + 0.05
boxes = np.concatenate((centre - half, centre + half), axis=1)
before = peak()
kept = detect(logits, boxes, PrototypeRule())
masks = PrototypeMasks(grid, coefficients[kept.rows])
rows = PrototypeRows(kept.boxes, kept.labels, kept.class_scores, masks)
found = paint(rows, (2160, 3840), tuple(map(str, range(80))))
codes = found.rle()
print(len(codes), sum(int(mask.sum()) for _, _, mask in found.windows()) // len(codes), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from Linux")
def test_a_hundred_masks_of_a_large_frame_fit_into_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    count, pixels, megabytes = map(int, done.stdout.split())
    assert count == 100
    assert pixels > 100_000
    assert megabytes <= 200  # one dense array of them has 830
