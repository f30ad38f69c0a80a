"""From a model to one verified file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn

from protomask.data.coco.dataset import CocoDataset
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.evaluation.evaluate import OnProgress
from protomask.exporting.agreement import Agreement, WaysOut, judge, report
from protomask.exporting.formats import Format, check_format, check_static, find_format
from protomask.exporting.goldens import golden_image, store_golden
from protomask.exporting.graphs import OUTPUT_NAMES, Candidates, ExportGraph, export_graph, wrap
from protomask.exporting.job import WriteJob
from protomask.exporting.metadata import describe
from protomask.exporting.onnx import rounded_to_half
from protomask.exporting.verify import compare, compare_ap, compare_batches, compare_parts, parts_of, spread
from protomask.images.decode import Pixels
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.network import Network
from protomask.runtimes.info import ExportInfo, Form
from protomask.torch_runtime.exported import open_exported
from protomask.torch_runtime.predictor import TorchPredictor

DEPTH_IMAGES = 8
"""Images that decide how many candidates NMS in the file must look at."""
PARTS_IMAGES = 3
"""Images on which every number that the network gives before NMS is compared."""


def export(
    predictor: TorchPredictor,
    path: str | Path,
    *,
    images: Sequence[Pixels],
    dataset: CocoDataset | None = None,
    options: PredictOptions | None = None,
    format: str | None = None,
    form: Form = "detections",
    precision: Literal["float32", "float16"] = "float32",
    calibration: Sequence[Pixels] | None = None,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    dynamic_batch: bool = False,
    search_depth: int | None = None,
    golden: Pixels | None = None,
    licence: str | None = None,
    on_progress: OnProgress | None = None,
) -> Agreement:
    """Write a model to one file, after comparing what the file does with what the model does.

    Args:
        predictor: the model, on the CPU, in float32.
        path: file to write; it appears whole, or not at all.
        images: (H, W, 3) uint8 RGB each, that show what the model knows: they are compared.
        dataset: annotated images, on which the AP of both is measured and compared.
        options: nms, iou_threshold, candidate_threshold and max_detections that the file settles; the model's own where
            they say nothing. Detections above their ``score_threshold`` are compared one by one.
        format: name of `protomask.exporting.formats.FORMATS`; that of the ending of ``path`` when not given.
        form: "detections" goes from the pixels of an image to masks, for any runtime; "candidates" ends before NMS and
            leaves every option of a prediction, and the batch size, to `protomask.load`.
        precision: of the weights in a file of candidates; half precision halves it. Arithmetic stays in float32.
        calibration: images of the same kind, some hundred, to make an 8-bit file; None for float32.
        mask_size: (h, w) of the masks; that of the prototypes when not given.
        fixed_size: the file takes only images of the network's size, and does not resize.
        dynamic_batch: a file of detections takes any number of images of one size at once, as those of candidates do.
        search_depth: number of (anchor, class) pairs, the best, that NMS in a file of detections looks at. By default
            all, or, where that would cost too much, as many as these images need.
        golden: image that is stored in the file with what the file must return for it; a sample image by default.
        licence: of the weights; that of the zoo where it is a model of the zoo.
        on_progress: called after each image of ``dataset`` and model, with the total.

    Returns:
        How the file agrees with the model, with warnings about deviations that do not matter. An 8-bit file is only
        compared, never refused; weights in half precision may change detections, but not AP.

    Raises:
        ConfigError: the ending, a threshold, or a combination that has no file.
        ExportError: the file does not do what the model does; nothing is left behind.
        MissingExtraError: a package is not installed.
        DataError: the file cannot be written, or an image of ``dataset`` cannot be read.

    """
    path, options = Path(path), options or PredictOptions()
    kind = find_format(path, format)
    check_format(
        kind, form=form, precision=precision, int8=calibration is not None,
        dynamic_batch=dynamic_batch and form == "detections",
    )  # fmt: skip
    _check(predictor, images, calibration)
    network, int8 = predictor.network, calibration is not None
    if form == "detections":
        options = _as_graphs_do(network.config, options)
    config = family_of(network.config).settle(network.config, options)
    record = export_graph(config)
    check_static(kind, config, form)
    candidates = _candidates(record.candidates, config, mask_size, fixed_size) if form == "candidates" else None
    if int8 and path.suffix == ".xml" and not record.openvino_int8:
        raise ConfigError(f"int8: expected an .onnx file for {config.name}, which OpenVINO gets wrong in 8 bits")
    if candidates is not None and search_depth is not None:
        raise ConfigError("search_depth: expected none in the form candidates, which ends before NMS")
    # With the folded weights of predictions: exporters would fold and round them in their own ways. Weights in half
    # precision are the network's own, which a runtime folds. The layout that predictions like best would leave
    # transpositions in the file.
    prepared = prepare_for_inference(network, fold=precision == "float32", contiguous=True)
    if kind.is_static and candidates is None:
        fixed_size = True
    if precision == "float16":
        prepared = rounded_to_half(prepared)
    if candidates is None and search_depth is None:
        search_depth = _search_depth(record, prepared, config, images)
    graph: nn.Module
    if candidates is None:
        graph = wrap(
            prepared, config, mask_size=mask_size, fixed_size=fixed_size, search_depth=search_depth,
            batched=dynamic_batch,
        )  # fmt: skip
    else:
        graph = candidates.graph(prepared)
    takes_batches = not kind.is_static and (dynamic_batch or candidates is not None)
    info = describe(
        predictor, config, candidates, fixed_size=fixed_size, takes_batches=takes_batches,
        precision="int8" if int8 else precision, licence=licence, search_depth=search_depth,
    )  # fmt: skip
    if info.input_size is not None and info.form == "detections":  # so that PyTorch gets the same rounded pixels
        images = [info.input.prepare(image) for image in images]
    masks = mask_size is None
    settled = None if form == "candidates" else PredictOptions(score_threshold=options.score_threshold)
    limits = record.limits
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written, probe = Path(folder) / "file" / path.name, Path(folder) / "probe" / path.name
            names, parts = _write(kind, graph.eval(), info, record, candidates, written, probe, images[0], calibration)
            exported = open_exported(written)
            sizes: dict[str, float] = {}
            if parts and record.parts is not None:
                running = exported if candidates is not None else open_exported(probe)
                sizes = compare_parts(prepared, record.parts, running, parts, images[:PARTS_IMAGES])
            agreement = compare(
                predictor, exported, images, options=options, settled=settled, limits=limits, masks=masks,
                network_is_compared=bool(sizes),
            )  # fmt: skip
            agreement = replace(agreement, parts=sizes, search_depth=search_depth)
            if info.takes_batches and not int8:
                together = compare_batches(
                    predictor,
                    exported,
                    images[0],
                    options=options.replace(score_threshold=agreement.score_threshold),
                    settled=settled,
                    limits=limits,
                    masks=masks,
                )
                agreement = agreement.and_in_batches(together)
            if dataset is not None:
                ap = compare_ap(predictor, exported, dataset, options=options, settled=settled, on_progress=on_progress)
                agreement = replace(agreement, ap=ap)
            if int8:
                agreement = report(agreement)
            else:
                exact = precision == "float32"
                ways_out = _ways_out(path, record, form, search_depth, exact=exact)
                agreement = judge(agreement, path.name, limits, ways_out, masks=masks, detections=exact)
            store_golden(kind.annotate, written, golden_image(info, golden), graph, names, exported, int8=int8)
            for file in sorted(written.parent.iterdir()):  # .bin before .xml: whoever sees the second has both
                file.replace(path.parent / file.name)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    return agreement


def _as_graphs_do(config: ModelConfig, options: PredictOptions) -> PredictOptions:
    """The options with what a file of detections does instead of what the model does by itself."""
    for name, value in {"edges": "grid", "duplicates": "drop"}.items():
        if getattr(options, name) is None and getattr(config, name, value) != value:
            options = options.replace(**{name: value})
    return options


def _check(predictor: TorchPredictor, images: Sequence[Pixels], calibration: Sequence[Pixels] | None) -> None:
    if not images:
        raise ConfigError("images: expected at least one to verify the file with, got none")
    if calibration is not None and not calibration:
        raise ConfigError("calibration: expected at least one image, got none")
    if predictor.device.type != "cpu" or predictor.precision != "float32":
        raise ConfigError(
            f"model: expected it on the CPU in float32, got {predictor.device.type} and {predictor.precision}"
        )


def _search_depth(record: ExportGraph, network: Network, config: ModelConfig, images: Sequence[Pixels]) -> int | None:
    """Number of pairs that NMS of the graph looks at, None for all."""
    known = record.parts
    if record.choose_search_depth is None or known is None:
        return None
    chosen = (images[place] for place in spread(len(images), DEPTH_IMAGES))
    return record.choose_search_depth(config, (parts_of(network, known, image) for image in chosen))


def _write(
    kind: Format,
    graph: nn.Module,
    info: ExportInfo,
    record: ExportGraph,
    candidates: Candidates | None,
    path: Path,
    probe: Path,
    image: Pixels,
    calibration: Sequence[Pixels] | None,
) -> tuple[list[str], list[str]]:
    """Write the file, and a second one that also has the parts: names of the outputs, and of the parts if any."""
    example = _tensor(info.input.prepare(image))
    if info.takes_batches:
        example = example.repeat(2, 1, 1, 1)  # of a single image the exporter would make a constant
    with torch.no_grad():
        outputs = graph(example)  # anchors are made here: an exporter would keep imaginary ones
    parts = (
        [] if record.parts is None or candidates is not None else [f"before_nms_{name}" for name in record.parts.names]
    )
    if candidates is not None:
        names = list(candidates.output_names)
    else:
        has_scores = len(outputs) - len(parts) == len(OUTPUT_NAMES)
        names = [name for name in OUTPUT_NAMES if name != "mask_scores" or has_scores]
    quantizing = None if calibration is None else [_tensor(info.input.prepare(image))[0] for image in calibration]
    for folder in (path.parent, probe.parent):
        folder.mkdir()
    probed = parts and kind.has_probe and calibration is None
    kind.write(
        WriteJob(
            graph=graph, info=info, path=path, example=example, output_names=names, part_names=parts,
            probe=probe if probed else None, calibration=quantizing, record=record,
        )
    )  # fmt: skip
    if candidates is not None:
        return names, [] if calibration is not None else names
    return names, parts if probed else []


def _ways_out(path: Path, record: ExportGraph, form: Form, search_depth: int | None, *, exact: bool) -> WaysOut:
    other = ".xml" if path.suffix == ".onnx" else ".onnx"
    network = f"another output format ({path.stem}{other}) may compute it right"
    if not exact:
        choice = "precision float32 keeps all digits of the weights"
    elif form == "detections" and record.candidates is not None:
        choice = "the form candidates leaves NMS to protomask"
        if search_depth is not None:
            choice = f"a search_depth above {search_depth} finds more, and {choice}"
    else:
        choice = f"{network}; a higher score_threshold compares what is surer"
    return WaysOut(network=network, choice=choice)


def _candidates(
    known: Candidates | None, config: ModelConfig, mask_size: tuple[int, int] | None, fixed_size: bool
) -> Candidates:
    if known is None:
        raise ConfigError(f"form: expected detections for {config.name}, got candidates")
    if mask_size is not None or fixed_size:
        raise ConfigError("mask_size, fixed_size: expected none in the form candidates, whose input has one size")
    return known


def _tensor(image: Pixels) -> Tensor:
    """(H, W, 3) array to (1, 3, H, W) tensor."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()[None]
