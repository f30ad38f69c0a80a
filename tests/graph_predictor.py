"""A graph that PyTorch runs, behind the code that reads exported files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from protomask.detection.options import PredictOptions
from protomask.exporting.graphs import GRAPHS, OUTPUT_NAMES, wrap
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.info import AnyInput, ExportInfo, Thresholds


class GraphPredictor(ExportedPredictor):
    """Runs a graph of the form "detections".

    Args:
        graph: (1, 3, H, W) uint8 to the outputs of such a file.
        info: what the file would say of itself.

    """

    def __init__(self, graph: nn.Module, info: ExportInfo) -> None:
        super().__init__(info, "graph", OUTPUT_NAMES)
        self.graph = graph.eval()

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            outputs = self.graph(torch.from_numpy(images))
        parts = GRAPHS[self.info.family].parts
        outputs = outputs[: len(outputs) - (0 if parts is None else len(parts.names))]
        names = [name for name in OUTPUT_NAMES if name != "mask_scores" or len(outputs) == len(OUTPUT_NAMES)]
        return dict(zip(names, (output.numpy() for output in outputs), strict=True))


def graph_of(network: Network) -> GraphPredictor:
    """The graph of a network with its own thresholds, as `protomask.exporting.files.export` settles them."""
    config = family_of(network.config).settle(network.config, PredictOptions())
    return GraphPredictor(wrap(network, config), info_of(config, network.class_names))


def info_of(config: ModelConfig, class_names: tuple[str, ...]) -> ExportInfo:
    """Of a file that resizes images itself."""
    family = family_of(config)
    return ExportInfo(
        model=config.name,
        family=family.name,
        class_names=class_names,
        input=AnyInput(),
        mask_frame=family.mask_frame,
        mask_paste=family.mask_paste(config),
        thresholds=Thresholds(
            nms=config.nms,
            iou_threshold=config.iou_threshold,
            candidate_threshold=config.candidate_threshold,
            max_detections=config.max_detections,
        ),
        protomask_version="0",
    )
