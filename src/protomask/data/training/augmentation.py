"""Augmentation settings, apart from the code that uses them, so that the command line can read them without torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

from protomask.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
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
        vertical_flip: probability of mirroring top to bottom; for images without an up, such as aerial ones.
        rotate90: probability of a quarter turn to the left or right; for such images too.
        scale_jitter: probability of large-scale jitter (Ghiasi et al. 2021) instead of zoom out and crop: the image
            is enlarged or shrunk with its aspect ratio kept, then cropped or padded.
        scale_jitter_min: smallest factor of the jitter, also for mosaics and for images that objects are pasted from.
        scale_jitter_max: largest factor of the jitter.
        mosaic: probability that an image is assembled from four (Bochkovskiy et al. 2020).
        copy_paste: probability that objects of another image are pasted in (Ghiasi et al. 2021).
        multi_scale: largest share by which the input of each step is smaller or larger (Redmon & Farhadi 2017).
        plain_end: share of the run, at its end, without mosaic and copy-paste (Ge et al. 2021).

    Raises:
        ConfigError: a value is out of its range.

    """

    photometric: float = 0.5
    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 18.0
    zoom_out: float = 0.5
    zoom_out_max: float = 4.0
    crop: float = 5 / 6
    crop_min: float = 0.3
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotate90: float = 0.0
    scale_jitter: float = 0.0
    scale_jitter_min: float = 0.1
    scale_jitter_max: float = 2.0
    mosaic: float = 0.0
    copy_paste: float = 0.0
    multi_scale: float = 0.0
    plain_end: float = 0.0

    def __post_init__(self) -> None:
        bounds = {
            "brightness": (0.0, 255.0),
            "hue": (0.0, 180.0),
            "zoom_out_max": (1.0, 16.0),
            "crop_min": (0.05, 1.0),
            "scale_jitter_min": (0.05, 16.0),
            "scale_jitter_max": (0.05, 16.0),
            "multi_scale": (0.0, 0.75),
        }
        for field in fields(self):
            low, high = bounds.get(field.name, (0.0, 1.0))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ConfigError(f"{field.name}: expected a number in [{low:g}, {high:g}], got {value}")
        if self.scale_jitter_min > self.scale_jitter_max:
            raise ConfigError(
                f"scale_jitter_min: expected at most scale_jitter_max ({self.scale_jitter_max:g}), "
                f"got {self.scale_jitter_min:g}"
            )

    @classmethod
    def off(cls) -> AugmentationConfig:
        """No augmentation: images are only resized. For overfitting checks."""
        return cls(photometric=0.0, zoom_out=0.0, crop=0.0, horizontal_flip=0.0)
