"""The verb from a data set to a calibrated model."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")

import protomask
from protomask.data.synthetic.write import write_dataset
from protomask.errors import ConfigError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, images=1, val_images=16, seed=5)
    return folder


def test_scores_of_other_images_become_better(shapes: Path) -> None:
    report = protomask.calibrate("yolact_nano", data=shapes)
    assert report.calibration.data == shapes.name
    assert report.calibration.images == report.check_images == 8
    assert report.after.calibration_error is not None
    assert report.before.spearman == pytest.approx(report.after.spearman, abs=0.01)
    model = protomask.load("yolact_nano").calibrated(report.calibration)
    assert model.calibration == report.calibration
    assert set(report.calibration.thresholds) <= set(model.class_names)
    told = report.to_dict()
    assert told["calibration error"] == {
        "before": report.before.calibration_error, "after": report.after.calibration_error,
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_some_images_must_be_on_both_sides(shapes: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="check_share: expected a share of 16 images"):
        protomask.calibrate("yolact_nano", data=shapes, check_share=share)
