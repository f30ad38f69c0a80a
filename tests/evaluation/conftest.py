from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coco_records import random_truth


@pytest.fixture
def truth() -> dict[str, Any]:
    return random_truth(np.random.default_rng(0))
