"""The families of networks, one record each: whatever differs between them is looked up here and nowhere else.

A new family is a folder with a config, a network and a criterion, and one more record in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from protomask.detection.options import Limits, PredictOptions
from protomask.detection.scoring import Scoring
from protomask.errors import ConfigError
from protomask.masks.grids import MaskPaste
from protomask.models.class_layers import ClassLayer
from protomask.models.config import ModelConfig
from protomask.models.fcis import detect as fcis_detect
from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.criterion import FCISCriterion
from protomask.models.fcis.geometry import image_geometry as fcis_geometry
from protomask.models.fcis.inside import look_inside as look_inside_fcis
from protomask.models.fcis.model import FCIS as FCISNetwork
from protomask.models.fcis.model import class_layers as fcis_class_layers
from protomask.models.fcis.network_input import network_input as fcis_input
from protomask.models.inside import Inside
from protomask.models.network import Network
from protomask.models.proto import detect as proto_detect
from protomask.models.proto.config import ProtoConfig
from protomask.models.proto.criterion import ProtoCriterion
from protomask.models.proto.geometry import image_geometry as proto_geometry
from protomask.models.proto.inside import look_inside as look_inside_proto
from protomask.models.proto.model import ProtoNetwork
from protomask.models.proto.model import class_layers as proto_class_layers
from protomask.models.proto.teaching import teaching as proto_teaching
from protomask.models.prototype_config import settle as settle_prototypes
from protomask.models.rcnn import detect as rcnn_detect
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.criterion import RCNNCriterion
from protomask.models.rcnn.geometry import image_geometry as rcnn_geometry
from protomask.models.rcnn.inside import look_inside as look_inside_rcnn
from protomask.models.rcnn.model import MaskRCNN
from protomask.models.rcnn.model import class_layers as rcnn_class_layers
from protomask.models.rcnn.network_input import network_input as rcnn_input
from protomask.models.yolact import detect as yolact_detect
from protomask.models.yolact.config import RESCORING_CHANNELS, YolactConfig
from protomask.models.yolact.criterion import YolactCriterion
from protomask.models.yolact.geometry import image_geometry as yolact_geometry
from protomask.models.yolact.inside import look_inside as look_inside_yolact
from protomask.models.yolact.model import Yolact
from protomask.models.yolact.model import class_layers as yolact_class_layers
from protomask.models.yolact.network_input import network_input as yolact_input
from protomask.ops.anchors import NetworkInput
from protomask.ops.geometry import Geometry
from protomask.structures.instances import Instances


@dataclass(frozen=True, kw_only=True)
class OptionalPart:
    """A part that a trained network can be given afterwards.

    Attributes:
        attribute: of the network, None where it has not got the part.
        options: config fields that give it the part.

    """

    attribute: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that the rest of the package must know about one family of networks.

    Attributes:
        name: of the family, in the header of weights files.
        config: class of its configs.
        network: (config, class_names, pretrained_backbone=False) to an untrained network.
        criterion: (network, label_smoothing=0.0) to its training loss: a module that takes the network's output and
            one `Target` per image and returns the terms, among them loss_total.
        geometry: config to the way from an image to the network's input.
        settle: (config, options of a prediction) to the config with the thresholds that they amount to.
        detect: (network in evaluation mode, its output, options) to what is kept in each image: rows with boxes,
            labels, class_scores and what their masks are made of.
        paint: (network, rows of one image, its original size (H, W), options) to `Instances`, all rows of them with the
            scores that the network gave.
        look_inside: (network in evaluation mode, its output, original sizes (H, W) of the images, options) to what
            `protomask.explain` shows of each image; None for a family that cannot be explained.
        class_layers: config to the layers that have rows of their own for each class.
        network_input: config to what the check of a data set must know; None for a family without anchors.
        teaching: (network that learns, trained network of the same family) to a function of the outputs of both, to
            terms of the loss by which the first learns from the second; None for a family that has none.
        parts: optional parts, by the name they have in the settings of a training run.
        mask_frame: what the grid of a mask covers: "grid" the whole image, "region" the box of the instance.
        mask_paste: config to how the mask of a region becomes pixels, see `protomask.masks.grids.region_lines`.
        compiled_parts: attributes of the network that `torch.compile` translates; empty for the whole network.
        head_learning_rate_factor: factor on the learning rate of everything but the backbone in training: narrow layers
            before an output need more than wide ones to change it as fast.

    """

    name: str
    config: type[ModelConfig]
    network: Callable[..., Network]
    criterion: Callable[..., nn.Module]
    geometry: Callable[[Any], Geometry]
    settle: Callable[[Any, PredictOptions], ModelConfig]
    detect: Callable[[Any, Any, PredictOptions], Sequence[Any]]
    paint: Callable[[Any, Any, tuple[int, int], PredictOptions], Instances]
    class_layers: Callable[[Any], tuple[ClassLayer, ...]]
    look_inside: Callable[[Any, Any, Sequence[tuple[int, int]], PredictOptions], Sequence[Inside]] | None = None
    network_input: Callable[[Any], NetworkInput] | None = None
    teaching: Callable[[Any, Any], Callable[[Any, Any], dict[str, Tensor]]] | None = None
    parts: Mapping[str, OptionalPart] = field(default_factory=dict)
    mask_frame: Literal["grid", "region"] = "grid"
    mask_paste: Callable[[Any], MaskPaste] = lambda config: "integer"
    compiled_parts: tuple[str, ...] = ()
    head_learning_rate_factor: float = 1.0

    def limits(self, config: ModelConfig, options: PredictOptions) -> Limits:
        """NMS and number of detections that options amount to with a network of this family."""
        settled = self.settle(config, options)
        return Limits(settled.nms, settled.max_detections)


YOLACT = Family(
    name="yolact",
    config=YolactConfig,
    network=Yolact,
    criterion=YolactCriterion.for_network,
    geometry=yolact_geometry,
    settle=settle_prototypes,
    detect=yolact_detect.detect,
    paint=yolact_detect.paint,
    class_layers=yolact_class_layers,
    look_inside=look_inside_yolact,
    network_input=yolact_input,
    parts={"mask_rescoring": OptionalPart(attribute="rescoring", options={"rescoring_channels": RESCORING_CHANNELS})},
    mask_frame="grid",
)
RCNN = Family(
    name="rcnn",
    config=RCNNConfig,
    network=MaskRCNN,
    criterion=RCNNCriterion,
    geometry=rcnn_geometry,
    settle=rcnn_detect.settle,
    detect=rcnn_detect.detect,
    paint=rcnn_detect.paint,
    class_layers=rcnn_class_layers,
    look_inside=look_inside_rcnn,
    network_input=rcnn_input,
    parts={"mask_iou": OptionalPart(attribute="mask_iou_head", options={"mask_iou": True})},
    mask_frame="region",
    mask_paste=lambda config: config.conventions.mask_paste,
    compiled_parts=("backbone", "fpn", "rpn_head"),  # what comes after them depends on what was found
)
PROTO = Family(
    name="proto",
    config=ProtoConfig,
    network=ProtoNetwork,
    criterion=ProtoCriterion.for_network,
    geometry=proto_geometry,
    settle=settle_prototypes,
    detect=proto_detect.detect,
    paint=proto_detect.paint,
    class_layers=proto_class_layers,
    look_inside=look_inside_proto,
    teaching=proto_teaching,
    mask_frame="grid",
    head_learning_rate_factor=5.0,
)
FCIS = Family(
    name="fcis",
    config=FCISConfig,
    network=FCISNetwork,
    criterion=FCISCriterion,
    geometry=fcis_geometry,
    settle=fcis_detect.settle,
    detect=fcis_detect.detect,
    paint=fcis_detect.paint,
    class_layers=fcis_class_layers,
    look_inside=look_inside_fcis,
    network_input=fcis_input,
    mask_frame="region",
    mask_paste=lambda config: "pixels",
    compiled_parts=("backbone", "rpn"),  # what comes after them depends on what was found
)
FAMILIES: dict[str, Family] = {family.name: family for family in (YOLACT, RCNN, PROTO, FCIS)}


def register(family: Family) -> Family:
    """Make one more family known.

    Raises:
        ConfigError: the name or the config class is taken.

    """
    for known in FAMILIES.values():
        if family.name == known.name or family.config is known.config:
            raise ConfigError(
                f"family: expected a new name and config class, got {family.name} with {family.config.__name__}; "
                f"{known.name} has {known.config.__name__}"
            )
    FAMILIES[family.name] = family
    return family


def family(name: str) -> Family:
    """The family of a name.

    Raises:
        ConfigError: no such family.

    """
    if name not in FAMILIES:
        raise ConfigError(f"family: expected one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]


def family_of(config: ModelConfig) -> Family:
    """The family that a config belongs to.

    Raises:
        ConfigError: a config of no known family.

    """
    for known in FAMILIES.values():
        if type(config) is known.config:
            return known
    expected = ", ".join(known.config.__name__ for known in FAMILIES.values())
    raise ConfigError(f"config: expected one of {expected}, got {type(config).__name__}")


def at_image_size(network: Network, image_size: int) -> Network:
    """The same network for another size of its input; it shares every tensor with the one given.

    Args:
        network: stays as it is.
        image_size: in the place of its config's, see `ModelConfig.for_input`.

    Raises:
        ConfigError: the network cannot have this size.

    """
    other: Any = copy(network)
    other.config = network.config.for_input(image_size)
    other.geometry = family_of(network.config).geometry(other.config)
    other._compiled_call_impl = None  # it would run the network that was copied
    result: Network = other
    return result


def read_output(
    network: Network, output: Any, original_sizes: Sequence[tuple[int, int]], options: PredictOptions
) -> list[Instances]:
    """What a network predicted as one `Instances` per image.

    Args:
        network: in evaluation mode.
        output: of it, for B images.
        original_sizes: (H, W) of each image before it was resized.
        options: options of the prediction.

    """
    own = family_of(network.config)
    scoring = Scoring.of(options, network.class_names, network.calibration)
    raw = scoring.of_network(options)
    rows = own.detect(network, output, raw)
    return [scoring.finish(own.paint(network, one, size, raw)) for one, size in zip(rows, original_sizes, strict=True)]
