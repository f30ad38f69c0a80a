from __future__ import annotations

from typing import Any

import pytest
import torch

from protomask.errors import ConfigError
from protomask.models.proto.heads import ProtoOutput
from protomask.models.proto.teaching import teaching
from tiny_proto import NAMES, SMALL, tiny_network

TERMS = {"loss_teacher_class", "loss_teacher_box", "loss_teacher_mask"}


def outputs(*changes: dict[str, Any]) -> list[ProtoOutput]:
    """The same images through sharp networks; some points are sure, most are not."""
    side = SMALL["image_size"]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: list[ProtoOutput] = [tiny_network(**{"sharpness": 10, **one}).eval()(images) for one in changes]
    return [one._replace(class_logits=one.class_logits + without_objects(one, 3)) for one in found]


def without_objects(output: ProtoOutput, shift: float) -> torch.Tensor:
    """(C,) or (C + 1,): what added to the class logits makes all points less sure of objects."""
    own = torch.full(output.class_logits.shape[-1:], -shift)
    if len(own) > len(NAMES):
        own[0] = 0
    return own


@pytest.mark.parametrize("mask_head", ["linear", "dynamic"])
@pytest.mark.parametrize("score", ["rated", "quality", "class"])
def test_a_student_comes_to_predict_what_its_teacher_does(score: str, mask_head: str) -> None:
    wide: dict[str, Any] = {"neck_channels": 24, "num_prototypes": 6, "mask_head": mask_head, "score": score}
    terms = teaching(tiny_network(score=score), tiny_network(**wide))
    start, taught = outputs({"score": score}, wide)
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in start._asdict().items()
        if name in ("box_values", "class_logits", "mask_parameters", "prototypes", "quality_logits")
        and value is not None
    }
    optimizer = torch.optim.Adam(leaves.values(), lr=0.05)
    torch.manual_seed(0)
    seen = []
    for _ in range(60):
        losses = terms(start._replace(**leaves), taught)
        assert set(losses) == TERMS
        assert all(value.isfinite() and value >= 0 and value.shape == () for value in losses.values())
        seen.append({name: float(value.detach()) for name, value in losses.items()})
        optimizer.zero_grad()
        total: Any = sum(losses.values())
        total.backward()
        optimizer.step()
    assert all(seen[-1][name] < 0.7 * seen[0][name] for name in TERMS - {"loss_teacher_mask"})
    assert seen[-1]["loss_teacher_mask"] < seen[0]["loss_teacher_mask"]


def test_a_network_has_nothing_to_learn_from_its_own_scores_and_boxes() -> None:
    [output] = outputs({})
    losses = teaching(tiny_network(), tiny_network())(output, output)
    assert float(losses["loss_teacher_class"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["loss_teacher_box"]) == pytest.approx(0, abs=1e-5)


def test_a_teacher_that_is_sure_of_nothing_teaches_only_that() -> None:
    start, taught = outputs({}, {})
    losses = teaching(tiny_network(), tiny_network())(
        start, taught._replace(class_logits=taught.class_logits + without_objects(taught, 99))
    )
    assert losses["loss_teacher_box"] == losses["loss_teacher_mask"] == 0
    assert losses["loss_teacher_class"] > 0


def test_both_must_speak_of_the_same_points_and_classes() -> None:
    student = tiny_network()
    with pytest.raises(ConfigError, match=r"teacher: expected a network with head points, .* got anchors"):
        teaching(student, tiny_network(head="anchors"))
    with pytest.raises(ConfigError, match="teacher: expected a network with image_size 64"):
        teaching(student, tiny_network(image_size=96))
    other = tiny_network()
    other.class_names = ("nut", "bolt", "screw")
    with pytest.raises(ConfigError, match="teacher: expected the classes nut, bolt, gear, got nut, bolt, screw"):
        teaching(student, other)
