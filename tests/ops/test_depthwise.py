import pytest
import torch
from torch import nn

from protomask.ops.depthwise import DepthwiseGradientsInFloat32


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 2, 1), ((2, 1), (1, 0), 2)])
def test_gradients_are_nearer_to_float32_and_results_are_those_of_autocast(
    stride: int, padding: int, dilation: int, *, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, stride, padding, dilation, groups=8, bias=bias)
    images = torch.randn(2, 8, 17, 19, requires_grad=True)
    inputs = [images, *conv.parameters()]

    def run() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        found = conv(images)
        return found, torch.autograd.grad(found.float().square().sum(), inputs)

    exact, exact_gradients = run()
    with torch.autocast("cpu", torch.bfloat16):
        plain, plain_gradients = run()
        with DepthwiseGradientsInFloat32():
            found, gradients = run()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, plain)
    for one, other, true in zip(gradients, plain_gradients, exact_gradients, strict=True):
        assert one.dtype == torch.float32
        assert (one - true).norm() < 0.01 * true.norm()
        assert (one - true).norm() <= 1.05 * (other - true).norm()
    assert (found.float() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_without_autocast_nothing_changes(groups: int) -> None:
    conv = nn.Conv2d(8, 8, 3, groups=groups)
    images = torch.randn(2, 8, 9, 9)
    with DepthwiseGradientsInFloat32():
        found = conv(images)
    assert torch.equal(found, conv(images))
    assert found.dtype == torch.float32


@pytest.mark.parametrize(("groups", "outputs", "padding"), [(1, 8, 1), (2, 8, 1), (8, 16, 1), (8, 8, "same")])
def test_other_convolutions_under_autocast_stay_as_they_are(groups: int, outputs: int, padding: int | str) -> None:
    conv = nn.Conv2d(8, outputs, 3, padding=padding, groups=groups)
    images = torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        plain = conv(images)
        with DepthwiseGradientsInFloat32():
            assert torch.equal(conv(images), plain)


def test_inputs_that_need_no_gradient_get_none() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)
    with torch.autocast("cpu", torch.bfloat16), DepthwiseGradientsInFloat32():
        conv(torch.randn(2, 8, 9, 9)).float().sum().backward()
    assert conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    images = torch.randn(2, 8, 9, 9, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), DepthwiseGradientsInFloat32():
        conv(images).float().sum().backward()
    assert images.grad is not None
