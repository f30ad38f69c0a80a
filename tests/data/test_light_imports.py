from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    ["coco.schema", "coco.layout", "recognition", "training.augmentation", "synthetic.scene", "synthetic.write"],
)
def test_rooms_that_need_no_torch_do_not_import_it(module: str) -> None:
    code = f"import protomask.data.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
