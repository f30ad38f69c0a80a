"""What a file will say of itself."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

from protomask import __version__
from protomask.exporting.graphs import Candidates, export_graph
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.zoo import ZOO
from protomask.ops.geometry import Geometry, ImageGeometry, ShortSideGeometry
from protomask.runtimes.info import AnyInput, ExportInfo, FixedInput, InputRule, ShortSideInput, Thresholds
from protomask.torch_runtime.predictor import TorchPredictor


def describe(
    predictor: TorchPredictor,
    config: ModelConfig,
    candidates: Candidates | None,
    *,
    fixed_size: bool,
    takes_batches: bool,
    precision: Literal["float32", "float16", "int8"],
    licence: str | None,
    search_depth: int | None,
) -> ExportInfo:
    """What the file says of itself."""
    network, family = predictor.network, family_of(config)
    return ExportInfo(
        model=config.name,
        family=family.name,
        class_names=network.class_names,
        form="detections" if candidates is None else "candidates",
        batch="any" if takes_batches else "one",
        input=AnyInput()
        if export_graph(config).as_is
        else _input_rule(network.geometry, fixed_size=fixed_size or candidates is not None),
        mask_frame=family.mask_frame,
        mask_paste=family.mask_paste(config),
        thresholds=Thresholds(
            # A family has those of them that mean something to it.
            **{entry.name: getattr(config, entry.name) for entry in fields(Thresholds) if hasattr(config, entry.name)}
        ),
        search_depth=search_depth,
        rule=None if candidates is None else candidates.rule(network.config),
        calibration=network.calibration,
        precision=precision,
        licence=licence or (ZOO[predictor.source].licence if predictor.source in ZOO else None),
        provenance={"source": Path(predictor.source).name},
        config=config.to_dict(),
        protomask_version=__version__,
    )


def _input_rule(geometry: Geometry, *, fixed_size: bool) -> InputRule:
    """How readers of the file prepare images: by themselves where the graph could only be slower, or less exact."""
    method = geometry.byte_method
    if isinstance(geometry, ImageGeometry):
        if method is None and not fixed_size:
            return AnyInput()
        return FixedInput(size=geometry.image_size, method=method or "bilinear", any_size=not fixed_size)
    assert isinstance(geometry, ShortSideGeometry)
    if method is None or geometry.rounding == "half_even":  # which only graphs know that resize by themselves
        return AnyInput()
    return ShortSideInput(
        image_size=geometry.image_size,
        max_image_size=geometry.max_image_size,
        rounding=geometry.rounding,
        method=method,
    )
