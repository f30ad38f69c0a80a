"""Backbones: an image goes in, feature maps of rising stride come out.

The contract of every backbone: ``channels`` and ``strides`` are tuples, and ``forward`` returns a list of as many
feature maps, finest first. C3 has stride 8, C4 16, C5 32. ``layers`` gives its parts in order, each with the stride of
its output, or with 2 where it is part of the way to stride 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protomask.downloads import check_reachable
from protomask.errors import ConfigError, MissingExtraError
from protomask.models.config import STRIDES
from protomask.models.layers.deform_conv import make_deformable
from protomask.models.layers.efficientnet_lite import EfficientNetLite0
from protomask.models.pretrained import fetch_torchvision_weights, offline_ways

# Torchvision classifiers: for each, the modules that run in order and the level that the output of some of them is.
# A dotted name reaches into a container.
_RESNET_STEPS: tuple[tuple[str, str | None], ...] = (
    ("conv1", None), ("bn1", None), ("relu", None), ("maxpool", None),
    ("layer1", "C2"), ("layer2", "C3"), ("layer3", "C4"), ("layer4", "C5"),
)  # fmt: skip
_SHUFFLENET_STEPS: tuple[tuple[str, str | None], ...] = (
    ("conv1", None), ("maxpool", "C2"), ("stage2", "C3"), ("stage3", "C4"), ("stage4", "C5"),
)  # fmt: skip
_REGNET_STEPS: tuple[tuple[str, str | None], ...] = (
    ("stem", None), ("trunk_output.block1", "C2"), ("trunk_output.block2", "C3"),
    ("trunk_output.block3", "C4"), ("trunk_output.block4", "C5"),
)  # fmt: skip
_TORCHVISION: dict[str, tuple[tuple[tuple[str, str | None], ...], dict[str, int]]] = {
    "resnet18": (_RESNET_STEPS, {"C2": 64, "C3": 128, "C4": 256, "C5": 512}),
    "resnet34": (_RESNET_STEPS, {"C2": 64, "C3": 128, "C4": 256, "C5": 512}),
    "resnet50": (_RESNET_STEPS, {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}),
    "resnet101": (_RESNET_STEPS, {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}),
    "resnet152": (_RESNET_STEPS, {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}),
    "shufflenet_v2_x1_0": (_SHUFFLENET_STEPS, {"C2": 24, "C3": 116, "C4": 232, "C5": 464}),
    "regnet_x_400mf": (_REGNET_STEPS, {"C2": 32, "C3": 64, "C4": 160, "C5": 400}),
}


def build_backbone(
    name: str,
    levels: Sequence[str] = ("C3", "C4", "C5"),
    *,
    pretrained: bool = False,
    deformable_layers: Sequence[int] = (),
    deformable_interval: int = 1,
) -> Backbone:
    """Make a backbone by name.

    Args:
        name: "darknet53", "efficientnet_lite0", one of the torchvision names of this module, or "timm:NAME" for any
            timm model that can give features (extra ``timm``).
        levels: which levels to return, finest first.
        pretrained: start from the ImageNet weights that torchvision or timm publish (downloads them).
        deformable_layers: for each stage of a ResNet (C2 to C5), how many of its blocks may have a deformable
            convolution, see `protomask.models.layers.deform_conv.deformable_blocks`.
        deformable_interval: one in this many of those blocks has it.

    Raises:
        ConfigError: no such backbone or level.
        MissingExtraError: a timm backbone without timm installed.
        CheckpointError: pretrained weights cannot be downloaded.

    """
    for level in levels:
        if level not in STRIDES:
            raise ConfigError(f"backbone_levels: expected some of {', '.join(STRIDES)}, got {level!r}")
    if not levels or list(levels) != sorted(set(levels)):
        raise ConfigError(f"backbone_levels: expected different levels, the finest first, got {tuple(levels)}")
    if any(deformable_layers) and not name.startswith("resnet"):
        raise ConfigError(f"deformable_layers: only ResNets have deformable blocks, got backbone {name!r}")
    if name == "darknet53":
        if pretrained:
            raise ConfigError(
                "pretrained_backbone: expected false for darknet53, because nobody publishes its ImageNet weights for "
                "torchvision; or start from a checkpoint (weights)"
            )
        return Darknet53(levels)
    if name == "efficientnet_lite0":
        with offline_ways(name):
            return EfficientNetLite0(levels, pretrained=pretrained)
    if name.startswith("timm:"):
        with offline_ways(name):
            return TimmBackbone(name.removeprefix("timm:"), levels, pretrained=pretrained)
    if name in _TORCHVISION:
        with offline_ways(name):
            backbone = TorchvisionBackbone(name, levels, pretrained=pretrained)
        make_deformable(backbone.body, deformable_layers, deformable_interval)
        return backbone
    known = ", ".join([*_TORCHVISION, "darknet53", "efficientnet_lite0", "timm:NAME"])
    raise ConfigError(f"backbone: expected one of {known}, got {name!r}")


def use_caffe_strides(backbone: nn.Module) -> None:
    """Move the stride of each bottleneck from its 3x3 convolution to the 1x1 before, as ResNets of Caffe have it.

    Raises:
        ConfigError: the backbone has no bottlenecks.

    """
    from torchvision.models.resnet import Bottleneck

    blocks = [module for module in backbone.modules() if isinstance(module, Bottleneck)]
    if not blocks:
        raise ConfigError("stride_in_1x1: expected a ResNet with bottlenecks (50 layers or more)")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


class CaffePool(nn.MaxPool2d):
    """The pooling of a ResNet of Caffe, which begins at the first pixel and ends at the last: its size is rounded up.

    What it pools is never negative, so a row and a column of zeros behind it do what ``ceil_mode`` does, which graphs
    of images of any size cannot express.
    """

    def __init__(self) -> None:
        super().__init__(kernel_size=3, stride=2)

    def forward(self, rectified: Tensor) -> Tensor:
        """(B, C, H, W), not negative, to (B, C, ceil((H - 1) / 2), ceil((W - 1) / 2))."""
        pooled: Tensor = super().forward(nn.functional.pad(rectified, (0, 1, 0, 1)))
        return pooled


def use_caffe_pooling(backbone: nn.Module) -> None:
    """Let a ResNet pool as those of Caffe do."""
    for parent in list(backbone.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.MaxPool2d):
                setattr(parent, name, CaffePool())


def dilate_last_stage(backbone: Backbone) -> None:
    """Give C5 the stride of C4: its convolutions look twice as far instead (Chen et al. 2015, DeepLab, section 3.1).

    Raises:
        ConfigError: the backbone has no such stage, or does not tell which it is.

    """
    stages = [module for stride, module in backbone.layers() if stride == STRIDES["C5"]]
    convs = [module for stage in stages for module in stage.modules() if isinstance(module, nn.Conv2d)]
    if not any(max(conv.stride) > 1 for conv in convs):
        raise ConfigError("backbone: expected one whose last stage can be dilated, such as a ResNet")
    for conv in convs:
        conv.stride = (1, 1)
        if max(conv.kernel_size) > 1 and not isinstance(conv.padding, str):
            conv.dilation = (2 * conv.dilation[0], 2 * conv.dilation[1])
            conv.padding = (2 * conv.padding[0], 2 * conv.padding[1])
    backbone.strides = tuple(min(stride, STRIDES["C4"]) for stride in backbone.strides)


class TorchvisionBackbone(nn.Module):
    """A torchvision classifier cut into levels; parameters keep torchvision's names under ``body``."""

    def __init__(self, name: str, levels: Sequence[str] = ("C3", "C4", "C5"), *, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import get_model

        steps, channels = _TORCHVISION[name]
        classifier = get_model(name)
        if pretrained:
            path = fetch_torchvision_weights(name)
            classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        last = max(index for index, (_, level) in enumerate(steps) if level in levels)
        self.levels = tuple(levels)
        self.channels = tuple(channels[level] for level in levels)
        self.strides = tuple(STRIDES[level] for level in levels)
        self._level_of = {key.rpartition(".")[2]: level for key, level in steps}
        kept = [key for key, _ in steps[: last + 1]]
        self.body = nn.ModuleDict({key.rpartition(".")[2]: classifier.get_submodule(key) for key in kept})

    def layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Stride and module, in order."""
        for name, module in self.body.items():
            level = self._level_of[name]
            yield 2 if level is None else STRIDES[level], module

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one feature map per level."""
        features = []
        x = images
        for name, module in self.body.items():
            x = module(x)
            if self._level_of[name] in self.levels:
                features.append(x)
        return features


class TimmBackbone(nn.Module):
    """Any timm model that can return features at strides 4 to 32."""

    def __init__(self, name: str, levels: Sequence[str] = ("C3", "C4", "C5"), *, pretrained: bool = False) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingExtraError(f"backbone timm:{name} needs timm: pip install 'protomask[timm]'") from error
        if pretrained:
            _check_timm_weights(name)
        try:
            body: Any = timm.create_model(name, pretrained=pretrained, features_only=True)
        except RuntimeError as error:
            raise ConfigError(f"backbone: timm cannot make features of {name!r}: {error}") from error
        reductions = body.feature_info.reduction()
        wanted = [STRIDES[level] for level in levels]
        if not set(wanted) <= set(reductions):
            raise ConfigError(f"backbone: timm:{name} has strides {reductions}, expected {wanted} among them")
        self.body = body
        self.strides = tuple(wanted)
        self._indices = [max(i for i, stride in enumerate(reductions) if stride == want) for want in wanted]
        self.channels = tuple(body.feature_info.channels()[index] for index in self._indices)
        self._ends = dict(zip(map(_flat_name, body.feature_info.module_name()), reductions, strict=True))

    def layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Stride and module, in order; none where timm does not tell which module gives which features."""
        modules = dict(self._modules_between(self.body, ""))
        if not set(self._ends) <= set(modules):
            return
        ends = iter(self._ends.items())
        end, stride = next(ends)
        for name, module in modules.items():
            yield stride, module
            if name == end:
                end, stride = next(ends, ("", stride))

    def _modules_between(self, parent: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        """Children, and theirs in their place where features come from within."""
        for name, child in parent.named_children():
            path = prefix + _flat_name(name)
            if any(end.startswith(f"{path}_") for end in self._ends):
                yield from self._modules_between(child, f"{path}_")
            else:
                yield path, child

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one feature map per level."""
        features = self.body(images)
        chosen = [features[index] for index in self._indices]
        # Some transformers give (B, h, w, C).
        return [
            feature if feature.shape[1] == channels else feature.permute(0, 3, 1, 2)
            for feature, channels in zip(chosen, self.channels, strict=True)
        ]


def _check_timm_weights(name: str) -> None:
    """Raise the CheckpointError of weights that timm would wait for in vain."""
    from timm.models import get_pretrained_cfg

    published = get_pretrained_cfg(name)  # None where there is no such model: making it says so
    if published is not None and published.hf_hub_id:
        check_reachable(published.hf_hub_id, "model.safetensors", "pytorch_model.bin")


def _flat_name(name: str) -> str:
    # timm itself writes stages.0 as stages_0 where it cuts a model open.
    return name.replace(".", "_")


class ConvNormLeaky(nn.Sequential):
    """Convolution, batch norm, leaky ReLU (Redmon & Farhadi 2018, YOLOv3)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.1, inplace=True),
        )


class DarknetBlock(nn.Module):
    """1x1 then 3x3, activated before the addition and not after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormLeaky(channels, channels // 2, 1)
        self.conv2 = ConvNormLeaky(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x)) + x
        return out


class Darknet53(nn.Module):
    """Darknet-53 (YOLOv3, table 1) without its classifier."""

    def __init__(self, levels: Sequence[str] = ("C3", "C4", "C5")) -> None:
        super().__init__()
        all_channels = {"C2": 128, "C3": 256, "C4": 512, "C5": 1024}
        self.levels = tuple(levels)
        self.channels = tuple(all_channels[level] for level in levels)
        self.strides = tuple(STRIDES[level] for level in levels)
        self.stem = ConvNormLeaky(3, 32, 3)
        stages = []
        for in_channels, blocks in ((32, 1), (64, 2), (128, 8), (256, 8), (512, 4)):
            out_channels = 2 * in_channels
            down = ConvNormLeaky(in_channels, out_channels, 3, stride=2)
            stages.append(nn.Sequential(down, *(DarknetBlock(out_channels) for _ in range(blocks))))
        self.stages = nn.ModuleList(stages)

    def layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Stride and module, in order."""
        yield 2, self.stem
        yield from zip((2, 4, 8, 16, 32), self.stages, strict=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one feature map per level."""
        features = []
        x = self.stem(images)
        for level, stage in zip(("C1", "C2", "C3", "C4", "C5"), self.stages, strict=True):
            x = stage(x)
            if level in self.levels:
                features.append(x)
        return features


Backbone = TorchvisionBackbone | Darknet53 | EfficientNetLite0 | TimmBackbone
