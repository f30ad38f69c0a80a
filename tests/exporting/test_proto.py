from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import protomask
from protomask.errors import ConfigError
from tiny_proto import tiny_proto
from tiny_yolact import block_images

FORMS: list[tuple[str, dict[str, Any]]] = [
    ("detections", {}),
    ("detections", {"mask_head": "dynamic"}),
    ("candidates", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "changes"), FORMS)
def test_files_do_what_the_model_does(form: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model, images = tiny_proto(**changes), block_images((64, 64), (48, 80))
    agreement = protomask.export(model, tmp_path / "tiny.onnx", images=images, form=form, score_threshold=0)
    assert max(agreement.parts.values()) < 1e-3
    assert agreement.unmatched == 0
    file = protomask.load(tmp_path / "tiny.onnx")
    found, wanted = (one.predict(images[1], score_threshold=0) for one in (file, model))
    # Scores of an untrained network are nearly alike: their order may differ.
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    assert found.class_names == wanted.class_names
    assert (found[:20].masks != wanted[:20].masks).mean() < 0.01


def test_only_sums_of_prototypes_are_candidates(tmp_path: Path) -> None:
    model = tiny_proto(mask_head="dynamic")
    with pytest.raises(ConfigError, match="form: expected detections for protomask_n, whose masks are not plain sums"):
        protomask.export(model, tmp_path / "tiny.onnx", images=block_images((64, 64)), form="candidates")
