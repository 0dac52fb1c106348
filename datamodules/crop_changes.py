"""Changes of shape and cover, with which crops of one still picture differ as crops of a video do."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.augmentation import LabelledCrop

# Smallest and largest side of a patch over that of the box. A patch covers at most half of the target.
COVERED = (0.3, 0.7)


class CropChanges(NamedTuple):
    """How strongly the crops of a source differ from each other, beyond what the source shows.

    Attributes:
        camera: share of the samples that the simulated camera changes, see `datamodules.crop_camera`.
        stretch: largest change of a crop's width over its height, as a natural logarithm: 0.3 stands for 1.35.
        cover: share of the search regions in which a patch covers a part of the target.
    """

    camera: float = 0.0
    stretch: float = 0.0
    cover: float = 0.0

    def __call__(self, crops: list[LabelledCrop], templates: int, rng: Generator) -> list[LabelledCrop]:
        """Returns stretched and covered crops, each with random numbers of its own; the first ones are templates."""
        if self.stretch:
            crops = [stretch(crop, rng.uniform(-self.stretch, self.stretch)) for crop in crops]
        if self.cover:
            searched = [cover(crop, rng) if rng.random() < self.cover else crop for crop in crops[templates:]]
            crops = crops[:templates] + searched
        return crops


def stretch(crop: LabelledCrop, amount: float) -> LabelledCrop:
    """Enlarges a crop in one direction about the centre of its box, which stays where it is. The box remains exact.

    Args:
        crop: the crop.
        amount: logarithm of the factor on the width, or on the height if it is negative.
    """
    size, box = len(crop.picture), crop.box.astype(float)
    factors = np.exp([max(amount, 0.0), max(-amount, 0.0)])  # of x and y
    centre = np.clip(box[:2] + box[2:] / 2, 0, 1)
    step, start = 1 / factors, size * centre * (1 - 1 / factors)
    # OpenCV counts from the centre of the first pixel.
    matrix = np.array([[step[0], 0, start[0] + step[0] / 2 - 0.5], [0, step[1], start[1] + step[1] / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(crop.picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    ticks = np.arange(size)
    at = [np.clip(start[axis] + step[axis] * (ticks + 0.5) - 0.5, 0, size - 1) for axis in (1, 0)]  # rows, columns
    near = [(np.floor(where).astype(int), np.ceil(where).astype(int)) for where in at]
    padding = np.stack([padded[low] | padded[high] for padded, (low, high) in zip(crop.padding, near, strict=True)])
    corner = centre + (box[:2] - centre) * factors
    return LabelledCrop(picture, np.concatenate([corner, box[2:] * factors]).astype(crop.box.dtype), padding)


def cover(crop: LabelledCrop, rng: Generator) -> LabelledCrop:
    """Covers a part of the target with a patch from another place of the crop. The box stays as it is.

    Args:
        crop: the crop.
        rng: random generator.
    """
    size = len(crop.picture)
    low, high = (size * crop.box[:2]).clip(0, size), (size * (crop.box[:2] + crop.box[2:])).clip(0, size)
    width, height = ((high - low) * rng.uniform(*COVERED, 2)).astype(int)
    if min(width, height) < 1:
        return crop
    room = size - np.array([width, height])
    x, y = np.clip(rng.uniform(low, high) - np.array([width, height]) / 2, 0, room).astype(int)
    from_x, from_y = rng.integers(0, room + 1)
    picture = crop.picture.copy()
    picture[y : y + height, x : x + width] = crop.picture[from_y : from_y + height, from_x : from_x + width]
    return LabelledCrop(picture, crop.box, crop.padding)
