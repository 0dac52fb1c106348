"""What is done to crops before a network sees them: jitter of the window, and changes of the pictures."""

from dataclasses import dataclass

import cv2
import numpy as np

from trackers.crops import CropSpec


def jitter(box: np.ndarray, spec: CropSpec, rng: np.random.Generator) -> np.ndarray:
    """The xywh box around which a training crop is cut, near the true one (both in pixels)."""
    size = box[2:] * np.exp(spec.scale_jitter * rng.standard_normal(2))
    centre = box[:2] + box[2:] / 2 + spec.centre_jitter * np.sqrt(size.prod()) * (rng.random(2) - 0.5)
    return np.concatenate([centre - size / 2, size])


@dataclass(frozen=True)
class Augmentation:
    """Changes of the two crops of a pair.

    Attributes:
        gray: probability that both turn gray.
        flip: probability that both are mirrored.
        flip_each: probability that one is mirrored, drawn for each by itself (training only).
        brightness: largest relative change of brightness, drawn for each by itself (training only).
    """

    gray: float
    flip: float
    flip_each: float
    brightness: float

    def __call__(
        self, crops: list[np.ndarray], boxes: list[np.ndarray], rng: np.random.Generator, train: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Crops (S, S, 3) uint8 with their boxes (xywh in units of the side), changed together and each by itself."""
        gray, both = rng.random() < self.gray, rng.random() < self.flip
        result = []
        for picture, box in zip(crops, boxes, strict=True):
            mirror = both ^ (train and rng.random() < self.flip_each)
            gain = rng.uniform(1 - self.brightness, 1 + self.brightness) if train else 1.0
            if gray:
                picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            if mirror:
                picture, box = picture[:, ::-1], np.array([1 - box[0] - box[2], *box[1:]], box.dtype)
            if gain != 1.0:
                picture = cv2.convertScaleAbs(picture, alpha=gain)
            result.append((np.ascontiguousarray(picture), box))
        return [picture for picture, _ in result], [box for _, box in result]
