"""EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excitation and with ReLU6, made for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from protomask.downloads import fetch_from_hub
from protomask.models.config import STRIDES
from protomask.models.pretrained import LITE0_FILE, LITE0_REPOSITORY

# Per stage: expansion, output channels, blocks, kernel size, stride of the first block (table 1 of the paper).
_STAGES = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)  # fmt: skip
_LEVEL_AFTER_STAGE = {1: "C2", 2: "C3", 4: "C4", 6: "C5"}


class SeparableBlock(nn.Module):
    """Depthwise convolution, then 1x1 without activation: the first stage, which expands nothing."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(in_channels, kernel_size, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h / stride, w / stride)."""
        out: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)), inplace=True)))
        return out


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 without activation, added to the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.conv_pw = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv_dw = _depthwise(width, kernel_size, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv_pwl = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h / stride, w / stride)."""
        out: Tensor = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        out = F.relu6(self.bn2(self.conv_dw(out)), inplace=True)
        out = self.bn3(self.conv_pwl(out))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """The stages of EfficientNet-Lite0 up to the coarsest level asked for.

    Args:
        levels: which of C2 (24 channels), C3 (40), C4 (112) and C5 (320) to return, finest first.
        pretrained: start from ImageNet weights (downloaded once).

    Raises:
        CheckpointError: pretrained weights are neither cached nor reachable.

    """

    def __init__(self, levels: Sequence[str] = ("C3", "C4", "C5"), *, pretrained: bool = False) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.strides = tuple(STRIDES[level] for level in levels)
        last = max(stage for stage, level in _LEVEL_AFTER_STAGE.items() if level in levels)
        channels = {level: _STAGES[stage][1] for stage, level in _LEVEL_AFTER_STAGE.items()}
        self.channels = tuple(channels[level] for level in levels)
        self.conv_stem = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        width = 32
        stages = []
        for expansion, out_channels, blocks, kernel_size, stride in _STAGES[: last + 1]:
            stage: list[nn.Module] = []
            for block in range(blocks):
                step = stride if block == 0 else 1
                stage.append(
                    SeparableBlock(width, out_channels, kernel_size, step)
                    if expansion == 1
                    else InvertedResidual(width, out_channels, expansion, kernel_size, step)
                )
                width = out_channels
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.ModuleList(stages)
        if pretrained:
            self._load_published()

    def _load_published(self) -> None:
        from safetensors.torch import load_file

        tensors = load_file(fetch_from_hub(LITE0_REPOSITORY, LITE0_FILE))
        own = self.state_dict()
        self.load_state_dict({key: tensor for key, tensor in tensors.items() if key in own})

    def layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Stride and module, in order, see `protomask.models.layers.backbone`."""
        stride = 2
        yield stride, self.conv_stem
        yield stride, self.bn1
        for (*_, step), stage in zip(_STAGES, self.blocks, strict=False):
            stride *= step
            yield stride, stage

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one feature map per level."""
        x = F.relu6(self.bn1(self.conv_stem(images)), inplace=True)
        features = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if _LEVEL_AFTER_STAGE.get(index) in self.levels:
                features.append(x)
        return features


def _depthwise(channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=channels, bias=False
    )  # fmt: skip
