"""The golden yolact_resnet50 of the tests: its synthetic weights leave Fast NMS hundreds of candidates to look at."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

from protomask.checkpoints.io import fill_counters, load_exactly
from protomask.checkpoints.official_yolact import rename
from protomask.images.decode import Pixels, read_image
from protomask.models.yolact.model import Yolact
from protomask.models.zoo import yolact_resnet50, zoo_entry

TESTS = Path(__file__).resolve().parents[1] / "tests"
GOLDEN = TESTS / "golden" / "yolact"


def golden_network() -> Yolact:
    """The network, on the CPU, in evaluation mode."""
    golden_weights = run_path(str(TESTS / "golden_weights.py"))["golden_weights"]
    network = Yolact(yolact_resnet50(), zoo_entry("yolact_resnet50").class_names)
    tensors = rename(golden_weights(GOLDEN / "yolact_resnet50.state_dict.json"))
    load_exactly(network, fill_counters(network, tensors), source="golden weights")
    return network.eval()


def golden_image(number: int) -> Pixels:
    """1 or 2, (H, W, 3) uint8 RGB."""
    return read_image(GOLDEN / "inputs" / f"image{number}.png")
