from __future__ import annotations

import pytest
import torch
from torch import nn

from protomask.models.layers.separable import SeparableConv, begin_as_identities


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 1), (3, 2)])
def test_a_depthwise_convolution_begins_as_what_it_is_given(kernel_size: int, stride: int) -> None:
    torch.manual_seed(0)
    first, second = SeparableConv(64, 8, kernel_size, stride=stride), nn.Conv2d(8, 8, 1)
    untouched = second.weight.clone()
    begin_as_identities(nn.Sequential(first, second))
    images = torch.randn(4, 64, 16, 16)
    with torch.no_grad():
        given, found = images[:, :, ::stride, ::stride], first.depthwise(images)
    alike = torch.corrcoef(torch.stack([given.flatten(), found.flatten()]))[0, 1]
    assert 0.9 < alike < 0.99  # the channels differ a little
    assert float(found.std()) == pytest.approx(1, abs=0.1)
    assert torch.equal(second.weight, untouched)
