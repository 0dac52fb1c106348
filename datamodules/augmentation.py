"""Augmentation of training crops: jitter of their windows, and changes of their pictures."""

from dataclasses import dataclass

import cv2
import numpy as np

from trackers.crops import CropSpec


def jitter(box: np.ndarray, spec: CropSpec, rng: np.random.Generator) -> np.ndarray:
    """Returns a box near the true one, around which a training crop is cut; both are xywh in pixels."""
    size = box[2:] * np.exp(spec.scale_jitter * rng.standard_normal(2))
    centre = box[:2] + box[2:] / 2 + spec.centre_jitter * np.sqrt(size.prod()) * (rng.random(2) - 0.5)
    return np.concatenate([centre - size / 2, size])


@dataclass(frozen=True)
class LabelledCrop:
    """A crop of side S with its box.

    Attributes:
        picture: (S, S, 3) uint8, RGB.
        box: xywh in units of the side, (4,) float32.
        padding: rows and columns that show padding, (2, S) bool.
    """

    picture: np.ndarray
    box: np.ndarray
    padding: np.ndarray


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the crops of a sample.

    Attributes:
        gray: probability that all crops become gray.
        flip: probability that all crops are mirrored.
        flip_each: probability that a crop is mirrored, independently of the others (training only).
        brightness: largest relative change of a crop's brightness, independently of the others (training only).
    """

    gray: float
    flip: float
    flip_each: float
    brightness: float

    def __call__(self, crops: list[LabelledCrop], rng: np.random.Generator, train: bool) -> list[LabelledCrop]:
        """Returns the changed crops; `train` switches the changes on that are for training only."""
        gray, flip = rng.random() < self.gray, rng.random() < self.flip
        result = []
        for crop in crops:
            picture, box, padding = crop.picture, crop.box, crop.padding
            mirror = flip ^ (train and rng.random() < self.flip_each)
            gain = rng.uniform(1 - self.brightness, 1 + self.brightness) if train else 1.0
            if gray:
                picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            if mirror:
                picture, padding = picture[:, ::-1], np.stack([padding[0], padding[1, ::-1]])
                box = np.array([1 - box[0] - box[2], *box[1:]], box.dtype)
            if gain != 1.0:
                picture = cv2.convertScaleAbs(picture, alpha=gain)
            result.append(LabelledCrop(np.ascontiguousarray(picture), box, padding))
        return result
