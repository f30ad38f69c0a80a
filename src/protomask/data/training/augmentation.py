"""Augmentation settings, apart from the code that uses them, so that the command line can read them without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from protomask.settings import Between, CountOrZero, Settings, Unit


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Settings):
    """Augmentation of training images. The defaults follow YOLACT.

    Attributes:
        photometric: probability of each of the four colour changes.
        brightness: largest value added to or subtracted from all channels, 0..255 scale.
        contrast: pixels are multiplied by 1 - contrast .. 1 + contrast.
        saturation: chroma is multiplied by 1 - saturation .. 1 + saturation.
        hue: largest turn of the hue in degrees, either way.
        zoom_out: probability of placing the image on a larger canvas of the mean colour.
        zoom_out_max: largest ratio of the canvas side to the image side.
        crop: probability of cropping.
        crop_min: smallest side of the crop relative to the canvas side.
        horizontal_flip: probability of mirroring left to right.
        vertical_flip: probability of mirroring top to bottom; for images without a top, such as aerial ones.
        rotate90: probability of a quarter turn to the left or right; also for such images.
        scale_jitter: probability of large-scale jitter (Ghiasi et al. 2021) instead of zoom out and crop: the image
            is enlarged or shrunk with its aspect ratio kept, then cropped or padded.
        scale_jitter_min: smallest factor of the jitter, also for mosaics and for images that objects are pasted from.
        scale_jitter_max: largest factor of the jitter.
        mosaic: probability that an image is assembled from four (Bochkovskiy et al. 2020).
        copy_paste: probability that objects of another image are pasted in (Ghiasi et al. 2021).
        mix_from: number of images shown shortly before from which mosaic and copy-paste choose; each loading process
            keeps that many decoded, which saves most of the time that mixing takes. 0 chooses from all images.
        multi_scale: largest share by which the input size of a step may be smaller or larger (Redmon & Farhadi 2017).
        plain_end: share of the run, at its end, without mosaic and copy-paste (Ge et al. 2021).

    Raises:
        ConfigError: a value is out of its range.

    """

    photometric: Unit = 0.5
    brightness: Annotated[float, Between(0, 255)] = 32.0
    contrast: Unit = 0.5
    saturation: Unit = 0.5
    hue: Annotated[float, Between(0, 180)] = 18.0
    zoom_out: Unit = 0.5
    zoom_out_max: Annotated[float, Between(1, 16)] = 4.0
    crop: Unit = 5 / 6
    crop_min: Annotated[float, Between(0.05, 1)] = 0.3
    horizontal_flip: Unit = 0.5
    vertical_flip: Unit = 0.0
    rotate90: Unit = 0.0
    scale_jitter: Unit = 0.0
    scale_jitter_min: Annotated[float, Between(0.05, 16)] = 0.1
    scale_jitter_max: Annotated[float, Between(0.05, 16)] = 2.0
    mosaic: Unit = 0.0
    copy_paste: Unit = 0.0
    mix_from: CountOrZero = 0
    multi_scale: Annotated[float, Between(0, 0.75)] = 0.0
    plain_end: Unit = 0.0

    def _check(self) -> None:
        largest = self.scale_jitter_max
        self._expect("scale_jitter_min", self.scale_jitter_min <= largest, f"at most scale_jitter_max={largest:g}")

    @classmethod
    def off(cls) -> AugmentationConfig:
        """No augmentation: images are only resized. For overfitting checks."""
        return cls(photometric=0.0, zoom_out=0.0, crop=0.0, horizontal_flip=0.0)
