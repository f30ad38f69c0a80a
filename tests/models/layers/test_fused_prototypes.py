from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from protomask.models.layers.folding import prepare_for_inference
from protomask.models.layers.fused_prototypes import FusedPrototypes


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("upsamplings", "scale"), [(1, 2), (2, 4), (3, 8)])
def test_sizes_and_folding(dense: bool, upsamplings: int, scale: int) -> None:
    torch.manual_seed(0)
    layer = FusedPrototypes(
        16, 12, 5, num_levels=3, detail_channels=4, upsamplings=upsamplings, dense=dense
    ).train()  # fmt: skip
    levels = [torch.randn(2, 16, side, side + 1) for side in (8, 4, 2)]
    detail = torch.randn(2, 4, 15 if upsamplings == 1 else 16, 18)
    for _ in range(3):
        layer(levels, detail)  # batch norm learns
    with torch.no_grad():
        prototypes = deepcopy(layer).eval()(levels, detail)
        folded = prepare_for_inference(layer)(levels, detail)
    assert prototypes.shape == (2, detail.shape[2] * scale // 2, 9 * scale, 5)
    assert bool((prototypes < 0).any())
    assert torch.allclose(folded, prototypes, atol=1e-5)
    kernels = {tuple(module.kernel_size) for module in layer.modules() if isinstance(module, torch.nn.Conv2d)}
    assert kernels == ({(1, 1), (3, 3)} if dense else {(1, 1), (5, 5)})
