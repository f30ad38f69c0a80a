"""The families that can be exported, one record each: a network with everything around it as one graph.

Wrapping leaves the network as it is; docs/export.md says what the exported files have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from protomask.detection.prototypes import PrototypeRule
from protomask.errors import ConfigError
from protomask.exporting.agreement import ONE_STAGE, TWO_STAGES
from protomask.exporting.fcis import FCISGraph
from protomask.exporting.fcis import proposing_parts as fcis_parts
from protomask.exporting.matching import Limits
from protomask.exporting.proto import READING as PROTO
from protomask.exporting.prototypes import CandidatesGraph, PrototypeGraph, Reading
from protomask.exporting.rcnn import RCNNGraph, proposing_parts
from protomask.exporting.search import choose_search_depth
from protomask.exporting.yolact import READING as YOLACT
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.models.prototype_config import rule_of

OUTPUT_NAMES = ("boxes", "labels", "class_scores", "mask_scores", "masks")
"""Outputs of every graph; mask_scores only if the model has them."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """How the networks of one family are exported in the form "candidates".

    Attributes:
        graph: network to a module that takes (B, 3, H, W) uint8 and returns ``output_names``.
        output_names: of the graph.
        rule: config to what its reader does with them.

    """

    graph: Callable[[Any], nn.Module]
    output_names: tuple[str, ...]
    rule: Callable[[Any], PrototypeRule]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a network says before NMS: it is compared number by number, to prove the translation of the network.

    Attributes:
        names: of the parts, which the graph returns behind its detections.
        of: (network, its output for one image) to the same parts.

    """

    names: tuple[str, ...]
    of: Callable[[Any, Any], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class ExportGraph:
    """How the networks of one family are exported.

    Attributes:
        graph: (network, config with the thresholds of the file) to a module that takes (1, 3, H, W) uint8 and returns
            the outputs of ``OUTPUT_NAMES`` and then its ``parts``; it also takes mask_size and fixed_size where
            ``has_sizes``, batched where ``has_batches``, and search_depth where it has a ``choose_search_depth``.
        has_batches: it can take several images at once, and then every output has an additional first dimension.
        has_sizes: the masks can have another size, and the file can take images of the network's size only, see
            `protomask.exporting.prototypes.PrototypeGraph`.
        as_is: the graph must see images in their original size, so its reader never resizes them.
        limits: how much a float32 file may differ from the network.
        through_onnx: OpenVINO translates the ONNX file, in which shapes that depend on the image survive, instead of
            the PyTorch module, whose deformable convolutions stay one operation.
        openvino_int8: whether an OpenVINO file can have 8 bits.
        float_parts: attributes of the network that stay in float32 in an 8-bit file.
        candidates: the form of the file that ends before NMS; None for a family that has none.
        parts: what the graph returns behind its detections; None for nothing.
        choose_search_depth: (config, parts of some images) to the number of (anchor, class) pairs, the best, that NMS
            of the graph looks at, None for all; None for a family without such a limit.

    """

    graph: Callable[..., nn.Module]
    has_batches: bool = False
    has_sizes: bool = False
    as_is: bool = False
    limits: Limits = ONE_STAGE
    through_onnx: bool = False
    openvino_int8: bool = True
    float_parts: tuple[str, ...] = ()
    candidates: Candidates | None = None
    parts: Parts | None = None
    choose_search_depth: Callable[[Any, Iterable[Mapping[str, NDArray[Any]]]], int | None] | None = None


_CANDIDATES = ("class_logits", "boxes", "mask_coefficients", "prototypes")


def _prototype_graph(reading: Reading, float_parts: tuple[str, ...] = ()) -> ExportGraph:
    """How networks are exported whose masks are made of prototypes."""
    return ExportGraph(
        graph=partial(PrototypeGraph, reading=reading),
        has_batches=True,
        has_sizes=True,
        float_parts=float_parts,
        candidates=Candidates(
            graph=partial(CandidatesGraph, reading=reading),
            output_names=_CANDIDATES,
            rule=rule_of,
        ),
        parts=Parts(names=_CANDIDATES, of=reading.candidates),
        choose_search_depth=choose_search_depth,
    )


GRAPHS: dict[str, ExportGraph] = {
    "yolact": _prototype_graph(YOLACT, float_parts=("rescoring",)),
    "proto": _prototype_graph(PROTO),
    "rcnn": ExportGraph(
        graph=RCNNGraph,
        limits=TWO_STAGES,
        through_onnx=True,
        openvino_int8=False,
        float_parts=("mask_iou_head",),
        parts=Parts(names=("objectness_logits", "rpn_box_deltas"), of=proposing_parts),
    ),
    "fcis": ExportGraph(
        graph=FCISGraph,
        as_is=True,
        limits=TWO_STAGES,
        through_onnx=True,
        openvino_int8=False,
        parts=Parts(names=("proposal_logits", "proposal_deltas"), of=fcis_parts),
    ),
}
"""Graphs by the name of the family."""


def export_graph(config: ModelConfig) -> ExportGraph:
    """How networks of this config are exported.

    Raises:
        ConfigError: the family has no graph.

    """
    name = family_of(config).name
    if name not in GRAPHS:
        raise ConfigError(
            f"model: expected one of the family {' or '.join(GRAPHS)} to export, got {config.name} ({name})"
        )
    return GRAPHS[name]


def wrap(
    network: Network,
    config: ModelConfig,
    *,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    search_depth: int | None = None,
    batched: bool = False,
) -> nn.Module:
    """The graph of a network.

    Args:
        network: trained, in evaluation mode, on the CPU.
        config: the network's, with the thresholds and the NMS mode that the graph shall have.
        mask_size: (h, w) of the masks; that of the network's own grid when not given.
        fixed_size: images come in the network's size and are not resized.
        search_depth: number of (anchor, class) pairs that NMS looks at; the graph's own choice when not given.
        batched: it takes several images at once.

    Raises:
        ConfigError: this network, NMS mode, mask size, depth or batch has no graph.

    """
    record = export_graph(config)
    sizes: dict[str, Any] = {"mask_size": mask_size, "fixed_size": fixed_size} if record.has_sizes else {}
    if not record.has_sizes and (mask_size is not None or fixed_size):
        fitting = " or ".join(name for name, known in GRAPHS.items() if known.has_sizes)
        raise ConfigError(f"mask_size, fixed_size: expected only with the family {fitting}, got {config.name}")
    if search_depth is not None and record.choose_search_depth is None:
        raise ConfigError(f"search_depth: expected none for {config.name}, whose file has no such limit")
    if batched and not record.has_batches:
        fitting = " or ".join(name for name, known in GRAPHS.items() if known.has_batches)
        raise ConfigError(
            f"dynamic_batch: expected only with the family {fitting}, got {config.name}, whose outputs have as many "
            "rows as an image has instances"
        )
    batch = {"batched": batched} if record.has_batches else {}
    depth = {} if record.choose_search_depth is None else {"search_depth": search_depth}
    return record.graph(network, config, **sizes, **batch, **depth)
