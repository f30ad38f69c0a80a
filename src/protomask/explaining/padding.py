"""The padding experiment: a network learns where things are from the zeros around the image, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from protomask.data.coco.dataset import CocoDataset
from protomask.data.synthetic.write import write_dataset
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.evaluation.evaluate import check_classes, evaluate, open_split
from protomask.explaining.explain import torch_predictor
from protomask.explaining.padding_measures import PADDINGS, Padding, PrototypeRecord, staying
from protomask.explaining.results import Floats
from protomask.explaining.shifted import shifted_dataset
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.models.families import family_of
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor

SHIFT = 0.125
"""Share of its sides by which an image is moved."""
POSITION_SHARE = 0.5
"""A prototype shows its place if it varies over a plain image by at least this share of how it varies over others."""


@dataclass(frozen=True, kw_only=True)
class PaddingRow:
    """What was measured with one padding.

    Attributes:
        padding: of every convolution.
        position_prototypes: prototypes that vary over a plain gray image, which has no content but place, by
            ``POSITION_SHARE`` or more of how they vary over the images.
        plain_deviation: this share, mean over the prototypes.
        place_share: share of the prototypes' variance over the images that the place explains, mean over them.
        staying_prototypes: prototypes that stay where they are when the image moves.
        mask_ap: mask AP.
        box_ap: box AP.
        shifted_mask_ap: mask AP on the moved images.
        shifted_box_ap: box AP on the moved images.

    """

    padding: Padding
    position_prototypes: int
    plain_deviation: float
    place_share: float
    staying_prototypes: int
    mask_ap: float | None
    box_ap: float | None
    shifted_mask_ap: float | None
    shifted_box_ap: float | None


@dataclass(frozen=True, kw_only=True)
class PaddingResult:
    """The whole experiment.

    Attributes:
        model: name of the model.
        num_images: images that were looked at.
        num_prototypes: k.
        rows: one for each padding, zeros first.
        plain_maps: for each padding the (h, w, k) prototypes of a plain gray image.

    """

    model: str
    num_images: int
    num_prototypes: int
    rows: Sequence[PaddingRow]
    plain_maps: Sequence[Floats]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "model": self.model,
            "images": self.num_images,
            "prototypes": self.num_prototypes,
            "shift": SHIFT,
            "rows": [asdict(row) for row in self.rows],
        }


def compare_paddings(
    model: Predictor | str | Path | None = None,
    *,
    data: str | Path | None = None,
    split: str = "val",
    images: int = 60,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PaddingResult:
    """Run a model with paddings it was not trained with, and measure its prototypes and its AP.

    Args:
        model: of prototypes, as for `protomask.explain`.
        data: COCO data set with the classes of the model; by default synthetic scenes, which `yolact_nano` knows.
        split: part of the data set.
        images: number of images.
        seed: of the synthetic scenes.
        on_progress: called with the number of predictions done and their total.

    Raises:
        ConfigError: a model without prototypes, an exported file, or no images.
        DataError: the data set cannot be read, or has a class that the model lacks.

    """
    if images < 2:
        raise ConfigError(f"images: expected at least 2, got {images}")
    predictor = torch_predictor(model)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if data is None:
            write_dataset(folder / "scenes", images=0, val_images=images, seed=seed)
            data, split = folder / "scenes", "val"
        dataset = open_split(str(data), split, limit=images)
        check_classes(predictor.class_names, dataset)
        (folder / "shifted").mkdir()
        moved = shifted_dataset(dataset, SHIFT, folder / "shifted")
        total = 2 * len(PADDINGS) * len(dataset)
        rows, maps = [], []
        for number, padding in enumerate(PADDINGS):
            start = 2 * number * len(dataset)

            def advance(done: int, _: int, start: int = start) -> None:
                if on_progress is not None:
                    on_progress(start + done, total)

            row, plain = _measure(predictor, padding, dataset, moved, advance)
            rows.append(row)
            maps.append(plain)
    return PaddingResult(
        model=predictor.model_name,
        num_images=len(dataset),
        num_prototypes=maps[0].shape[2],
        rows=rows,
        plain_maps=maps,
    )


def with_padding(predictor: TorchPredictor, padding: Padding) -> TorchPredictor:
    """A copy of a model whose convolutions pad in another way; the model itself stays as it is.

    Deformable convolutions always pad with zeros; only their offsets are computed with the padding.
    """
    network = deepcopy(predictor.network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and any(np.atleast_1d(np.array(module.padding)) != 0):
            module.padding_mode = padding
    return TorchPredictor(network, predictor.source)


class _Watcher:
    """Predicts, and keeps what the prototypes were."""

    def __init__(self, predictor: TorchPredictor, padding: Padding) -> None:
        self.predictor = predictor
        self.padding = padding
        self.record = PrototypeRecord()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.predictor.class_names

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> list[Instances]:
        try:
            network, insides = self.predictor.look_inside(images, options)
        except RuntimeError as error:
            if "adding" not in str(error):
                raise
            raise ConfigError(
                f"model: its coarsest maps are too small for {self.padding} padding; a larger image size may do"
            ) from error
        family = family_of(network.config)
        found = []
        for inside, pixels in zip(insides, images, strict=True):
            if inside.prototypes is None:
                raise ConfigError(f"model: expected one with prototypes, got one of the family {family.name}")
            self.record.add(inside.prototypes.prototypes)
            found.append(family.paint(network, inside.rows, (pixels.shape[0], pixels.shape[1]), options))
        return found


def _measure(
    predictor: TorchPredictor,
    padding: Padding,
    dataset: CocoDataset,
    moved: CocoDataset,
    advance: Callable[[int, int], None],
) -> tuple[PaddingRow, Floats]:
    changed = with_padding(predictor, padding)
    before, after, plain = (_Watcher(changed, padding) for _ in range(3))
    metrics = evaluate(before, dataset, on_progress=advance)
    shifted = evaluate(after, moved, on_progress=lambda done, total: advance(len(dataset) + done, total))
    gray = np.full((*dataset.image_size(0), 3), 128, dtype=np.uint8)
    plain.predict_images([gray], PredictOptions(score_threshold=0.5))
    scenes = np.stack(before.record.first).astype(np.float32).std(axis=(0, 1, 2))
    varied = scenes > 1e-6
    plain_share = plain.record.mean.std(axis=(0, 1))[varied] / scenes[varied]
    row = PaddingRow(
        padding=padding,
        position_prototypes=int((plain_share >= POSITION_SHARE).sum()),
        plain_deviation=float(plain_share.mean()) if varied.any() else 0.0,
        place_share=float(before.record.place_share().mean()),
        staying_prototypes=int(staying(before.record.first, after.record.first, SHIFT).sum()),
        mask_ap=metrics.tables["mask"].AP,
        box_ap=metrics.tables["box"].AP,
        shifted_mask_ap=shifted.tables["mask"].AP,
        shifted_box_ap=shifted.tables["box"].AP,
    )
    return row, plain.record.mean
