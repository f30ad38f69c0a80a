from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from protomask.engine.optim import (
    OptimizerOptions,
    Schedule,
    autoscale_schedule,
    build_optimizer,
    freeze_batch_norm,
    freeze_stages,
    learning_rate_at,
    schedule_for_run,
    set_learning_rate,
)
from protomask.errors import ConfigError
from protomask.models.layers.backbone import build_backbone

COCO = Schedule(base_lr=1e-3, max_iterations=800_000, steps=(280_000, 600_000, 700_000, 750_000))
PASCAL = Schedule(base_lr=1e-3, max_iterations=120_000, steps=(60_000, 100_000))

# What the official training loop had in force, to the last bit.
OFFICIAL = [
    (COCO, 8, 800_000, {0: 1e-4, 1: 0.0001018, 100: 0.00028, 250: 0.00055, 499: 0.0009982, 500: 1e-3, 501: 1e-3,
                        279_999: 1e-3, 280_000: 1e-4, 599_999: 1e-4, 600_000: 1e-3 * 0.1**2, 700_001: 1e-3 * 0.1**3,
                        750_001: 1e-3 * 0.1**4}),
    (COCO, 16, 400_000, {0: 1e-4, 1: 1.038e-4, 250: 0.00105, 500: 2e-3, 139_999: 2e-3, 140_000: 2e-4,
                         300_000: 2e-3 * 0.1**2}),
    (COCO, 5, 1_280_000, {0: 1e-4, 500: 6.25e-4, 447_999: 6.25e-4, 448_000: 6.25e-5, 960_000: 6.25e-4 * 0.1**2}),
    (PASCAL, 8, 120_000, {0: 1e-4, 59_999: 1e-3, 60_000: 1e-4, 100_000: 1e-3 * 0.1**2}),
]  # fmt: skip


@pytest.mark.parametrize(("published", "batch_size", "max_iterations", "rates"), OFFICIAL)
def test_autoscaled_schedule_is_the_official_one(
    published: Schedule, batch_size: int, max_iterations: int, rates: dict[int, float]
) -> None:
    schedule = autoscale_schedule(published, batch_size)
    assert schedule.max_iterations == max_iterations
    for iteration, rate in rates.items():
        assert schedule.learning_rate_at(iteration) == pytest.approx(rate, rel=1e-15, abs=0), iteration


def test_autoscaling_rounds_down() -> None:
    schedule = autoscale_schedule(COCO, 6)
    assert schedule.max_iterations == math.floor(800_000 / 0.75)
    assert schedule.steps == tuple(math.floor(step / 0.75) for step in COCO.steps)
    assert (schedule.warmup_iterations, schedule.warmup_init) == (500, 1e-4)


@pytest.mark.parametrize("batch_size", [0, -8])
def test_autoscaling_needs_a_batch(batch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size: expected at least 1, got {batch_size}"):
        autoscale_schedule(COCO, batch_size)


@pytest.mark.data
def test_learning_rates_of_all_goldens(data_dir: Path) -> None:
    path = data_dir.parent / "golden" / "yolact" / "ops.npz"
    if not path.is_file():
        pytest.skip(f"goldens not found at {path}")
    golden = np.load(path)
    names = {key.removesuffix(".iter") for key in golden.files if key.startswith("lr.") and key.endswith(".iter")}
    assert names
    for name in sorted(names):
        published = PASCAL if "pascal" in name else COCO
        schedule = autoscale_schedule(published, int(name.rpartition("batch")[2]))
        assert schedule.max_iterations == int(golden[f"{name}.max_iter"])
        assert schedule.steps == tuple(golden[f"{name}.lr_steps"])
        rates = [schedule.learning_rate_at(int(iteration)) for iteration in golden[f"{name}.iter"]]
        assert rates == golden[f"{name}.lr"].tolist(), name


def test_schedule_scales_to_the_length_of_the_run() -> None:
    schedule = schedule_for_run(
        1000,
        base_lr=1e-3,
        batch_size=16,
        step_fractions=(0.35, 0.75, 0.875, 0.9375),
        warmup_iterations=500,
        warmup_init=1e-4,
    )
    assert schedule.base_lr == 2e-3
    assert schedule.steps == (350.0, 750.0, 875.0, 938.0)
    assert schedule.warmup_iterations == 100
    rates = [schedule.learning_rate_at(iteration) for iteration in range(1000)]
    assert rates[0] == 1e-4
    assert max(rates) == rates[100] == rates[349] == 2e-3
    assert rates[350] == pytest.approx(2e-4)


@pytest.mark.parametrize("length", [1, 3, 9])
@pytest.mark.parametrize("kind", ["step", "cosine", "flat_cosine"])
def test_very_short_runs_have_a_learning_rate(length: int, kind: Any) -> None:
    schedule = schedule_for_run(
        length,
        base_lr=1e-3,
        batch_size=8,
        step_fractions=(0.35,),
        warmup_iterations=500,
        warmup_init=1e-4,
        kind=kind,
    )
    assert all(0 < schedule.learning_rate_at(iteration) <= 1e-3 for iteration in range(length))


def test_cosine_falls_from_the_base_rate_to_zero() -> None:
    schedule = Schedule(base_lr=1e-2, max_iterations=1000, warmup_iterations=100, warmup_init=1e-4, kind="cosine")
    rates = [schedule.learning_rate_at(iteration) for iteration in range(1001)]
    assert rates[0] == 1e-4
    assert rates[100] == pytest.approx(1e-2)
    assert rates[550] == pytest.approx(5e-3)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert all(late < early for early, late in pairwise(rates[100:]))


def test_flat_cosine_keeps_the_rate_for_half_of_the_run() -> None:
    schedule = Schedule(base_lr=1e-2, max_iterations=1000, warmup_iterations=100, warmup_init=1e-4, kind="flat_cosine")
    rates = [schedule.learning_rate_at(iteration) for iteration in range(1001)]
    assert rates[0] == 1e-4
    assert rates[50] == pytest.approx((1e-2 + 1e-4) / 2)
    assert set(rates[100:501]) == {1e-2}
    assert rates[750] == pytest.approx(1e-2 * 0.525)
    assert rates[1000] == pytest.approx(5e-4)
    assert all(late < early for early, late in pairwise(rates[500:]))


def test_no_warmup_starts_at_the_base_rate() -> None:
    assert learning_rate_at(0, base_lr=1e-3, warmup_iterations=0, warmup_init=1e-4, steps=(10,)) == 1e-3
    assert learning_rate_at(10, base_lr=1e-3, warmup_iterations=0, warmup_init=1e-4, steps=(10,)) == 1e-4


def _small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)))


def test_optimizer_decays_every_parameter_as_published() -> None:
    network = _small_network()
    optimizer = build_optimizer(network, learning_rate=0.1, options=OptimizerOptions(weight_decay=0.5))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(2):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for parameter, start in zip(network.parameters(), before, strict=True):
        velocity = 1 + 0.5 * start
        first = start - 0.1 * velocity
        velocity = 0.9 * velocity + 1 + 0.5 * first
        torch.testing.assert_close(parameter.detach(), first - 0.1 * velocity)


def test_optimizer_needs_something_to_learn() -> None:
    network = _small_network().requires_grad_(False)
    with pytest.raises(ConfigError, match="at least one parameter"):
        build_optimizer(network, learning_rate=0.1)


def test_frozen_batch_norm_stays_frozen() -> None:
    network = _small_network()
    keys = list(network.state_dict())
    assert freeze_batch_norm(network) == 2
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [buffer.clone() for buffer in network.buffers()]
    network(torch.randn(2, 3, 4, 4)).sum().backward()
    assert list(network.state_dict()) == keys
    assert network.training
    assert not any(norm.training or norm.weight.grad is not None for norm in norms)
    assert all(map(torch.equal, network.buffers(), before))
    assert network[0].weight.grad is not None


def test_batch_norm_may_learn_on_fixed_statistics() -> None:
    network = _small_network()
    assert freeze_batch_norm(network, affine=False) == 2
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [buffer.clone() for buffer in network.buffers()]
    network(torch.randn(2, 3, 4, 4)).sum().backward()
    assert all(map(torch.equal, network.buffers(), before))
    assert all(norm.weight.grad is not None and norm.bias.grad is not None for norm in norms)


def test_biases_may_learn_faster_and_without_decay() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    options = OptimizerOptions(weight_decay=0.5, bias_learning_rate_factor=2.0, bias_weight_decay=False)
    optimizer = build_optimizer(network, learning_rate=0.1, options=options)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    rates = {name: groups[id(parameter)]["lr"] for name, parameter in network.named_parameters()}
    assert rates == {"0.weight": 0.1, "0.bias": 0.2, "1.weight": 0.1, "1.bias": 0.2}
    decays = {name: groups[id(parameter)]["weight_decay"] for name, parameter in network.named_parameters()}
    assert decays == {"0.weight": 0.5, "0.bias": 0.0, "1.weight": 0.5, "1.bias": 0.0}
    set_learning_rate(optimizer, 0.01)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.02]


class _TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.head = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))


def test_backbone_and_norms_may_learn_in_their_own_way() -> None:
    network = _TwoParts()
    options = OptimizerOptions(
        weight_decay=0.5, backbone_learning_rate_factor=0.25, norm_weight_decay=False, head_learning_rate_factor=5.0
    )
    optimizer = build_optimizer(network, learning_rate=0.1, options=options)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    found = {
        name: (groups[id(parameter)]["lr"], groups[id(parameter)]["weight_decay"])
        for name, parameter in network.named_parameters()
    }
    assert found == {
        "backbone.0.weight": (0.025, 0.5), "backbone.0.bias": (0.025, 0.5),
        "backbone.1.weight": (0.025, 0.0), "backbone.1.bias": (0.025, 0.5),
        "head.0.weight": (0.5, 0.5), "head.0.bias": (0.5, 0.5),
        "head.1.weight": (0.5, 0.0), "head.1.bias": (0.5, 0.5),
    }  # fmt: skip


FROZEN: dict[str, list[str]] = {  # first layers that still learn, for 1, 2, ... stages
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "shufflenet_v2_x1_0": ["stage2", "stage2", "stage3", "stage4"],
    "regnet_x_400mf": ["block1", "block2", "block3", "block4"],
    "darknet53": ["stages.1", "stages.2", "stages.3", "stages.4"],
    "efficientnet_lite0": ["blocks.1", "blocks.2", "blocks.3", "blocks.5"],
    "timm:resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "timm:efficientnet_lite0": ["blocks.1", "blocks.2", "blocks.3", "blocks.5"],
    "timm:mobilenetv3_small_050": ["blocks.0", "blocks.1", "blocks.2", "blocks.4"],
}


@pytest.mark.parametrize("name", FROZEN)
def test_the_first_stages_of_every_backbone_can_be_fixed(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with torch.device("cpu" if name.startswith(("timm", "regnet")) else "meta"):
        backbone = build_backbone(name)
    freeze_stages(backbone, 0)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    for count, first in enumerate(FROZEN[name], start=1):
        freeze_stages(backbone, count)
        learns = [parameter.requires_grad for parameter in backbone.parameters()]
        names = [key.removeprefix("body.") for key, _ in backbone.named_parameters()]
        assert names[learns.index(True)].startswith(f"{first}."), count
        assert learns == sorted(learns)
    freeze_stages(backbone, 5)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_backbone_without_a_stem_of_stride_2_says_so() -> None:
    pytest.importorskip("timm")
    backbone = build_backbone("timm:convnext_atto")
    with pytest.raises(ConfigError, match=r"frozen_stages: .*no layers below stride 4, got 1"):
        freeze_stages(backbone, 1)
    freeze_stages(backbone, 2)
    learns = {key: parameter.requires_grad for key, parameter in backbone.named_parameters()}
    assert not any(value for key, value in learns.items() if key.startswith(("body.stem", "body.stages_0")))
    assert all(value for key, value in learns.items() if key.startswith("body.stages_1"))
