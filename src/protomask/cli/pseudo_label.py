"""`protomask data pseudo-label`."""

from __future__ import annotations

from typing import Literal

from protomask.data.pseudo.options import PseudoLabelOptions

EXAMPLE = "protomask data pseudo-label mydata mydata-2 --model runs/mine --keep-above 0.6"
POSITIONAL = ("data", "output")


def run(
    data: str,
    output: str,
    options: PseudoLabelOptions,
    *,
    model: str,
    split: str = "train",
    max_detections: int = 100,
    image_size: int | None = None,
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    device: str = "auto",
    num_workers: int = 0,
    json: bool = False,
) -> int:
    """Add what a model is sure of to the annotations of a data set, for another round of training.

    Images stay where they are; the folder gets annotations/SPLIT.json and a dataset.yaml for --data.

    Args:
        data: data set, a folder with annotations/SPLIT.json and images/SPLIT/, or a YAML naming these paths.
        output: folder to make.
        options: what becomes of what is found.
        model: zoo name, weights file, run folder, exported file or hf:// address.
        split: split to label.
        max_detections: maximum number of instances per image that are considered.
        image_size: side of the network's input in pixels; the model's own by default.
        runtime: what runs the network, as for predict.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        num_workers: processes that load images; 0 loads them in this one.
        json: print one JSON summary instead of text.
    """
    from dataclasses import asdict
    from pathlib import Path

    from protomask.api import load
    from protomask.cli.output import dump_json, progress
    from protomask.data.coco.layout import open_dataset
    from protomask.detection.options import PredictOptions
    from protomask.extras import require_torch

    require_torch("protomask data pseudo-label")
    open_dataset(data, (split,))
    predictor = load(model, runtime=runtime, device=device)
    asked = PredictOptions(score_threshold=options.ignore_above, max_detections=max_detections, image_size=image_size)
    predictor.check_options(asked)
    from protomask.data.pseudo.write import write_pseudo_labels

    with progress("label", None, quiet=json) as bar:
        counts = write_pseudo_labels(
            data, output, lambda images: predictor.predict_images(images, asked), split=split, options=options,
            num_workers=num_workers, on_progress=bar.update,
        )  # fmt: skip
    file = Path(output) / "dataset.yaml"
    if json:
        dump_json({"data": str(file), **asdict(counts)})
        return 0
    print(f"{counts.images} images labelled, {counts.images_left_alone} left as they are")
    print(
        f"objects: {counts.added} new, {counts.redrawn} redrawn; regions to ignore: {counts.ignored} new, "
        f"{counts.regions_removed} gone"
    )
    print(f"to train on: {file}")
    return 0
