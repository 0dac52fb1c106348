"""Backdrops from real pictures."""

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.sequences.sequence import Sequence

ZOOM = 1.3  # largest enlargement beyond the one at which the picture covers the backdrop


def crop_backdrop(sequence: Sequence, frame: int, height: int, width: int, rng: Generator) -> np.ndarray:
    """Returns a random part of a frame, enlarged or shrunk to a backdrop, (3, height, width) uint8 RGB.

    Raises:
        UnreadableFrameError: the frame cannot be read.
    """
    cv2.setNumThreads(1)
    picture = sequence.image(frame)
    scale = max(height / picture.shape[0], width / picture.shape[1]) * rng.uniform(1, ZOOM)
    size = np.clip(np.rint(np.array([height, width]) / scale), 1, picture.shape[:2]).astype(int)
    top, left = (rng.random(2) * (picture.shape[:2] - size + 1)).astype(int)
    part = picture[top : top + size[0], left : left + size[1]]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(part, (width, height), interpolation=method).transpose(2, 0, 1).copy()
