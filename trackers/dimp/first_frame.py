"""Augmented samples of the first frame: displaced, mirrored, blurred and rotated copies."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

Uniform = Callable[[int, int], np.ndarray]  # (rows, columns) -> random numbers in [0, 1), float32


@dataclass(frozen=True)
class FirstFrame:
    """Settings of the samples that are made of the first frame in addition to the unchanged sample.

    Attributes:
        translation: displacement of four samples, one to each corner, in half sides; 0 leaves these samples out.
        flip: whether there is a mirrored sample.
        blurs: standard deviations (row, column) in pixels of one blurred sample each.
        angles: angles in degrees, anticlockwise, of one rotated sample each.
        random_shift: twice the largest displacement of mirrored, blurred and rotated samples, in sides of a sample.
        copies: number of copies of the first sample's features with dropped channels.
        dropout: probability with which a channel is dropped.
    """

    translation: float = 0.6
    flip: bool = True
    blurs: tuple[tuple[float, float], ...] = ((3, 1), (1, 3), (2, 2))
    angles: tuple[float, ...] = (10, -10, 45, -45)
    random_shift: float = 1 / 3
    copies: int = 2
    dropout: float = 0.2

    @property
    def count(self) -> int:
        """Number of all samples, copies of features included."""
        return 1 + 4 * (self.translation > 0) + self.flip + len(self.blurs) + len(self.angles) + self.copies


def first_frame_samples(
    patch: np.ndarray, size: int, uniform: Uniform, settings: FirstFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the samples from which the tracker learns its first filter; the first sample is not changed.

    Args:
        patch: pixels around the target, (H, W, 3) float32, larger than a sample. Outside of it, its border is repeated.
        size: side S of a sample in pixels.
        uniform: source of random numbers. It is called once, with a row for each random displacement.
        settings: samples to be made.

    Returns:
        The samples (N, S, S, 3) float32, and the displacement (row, column) in pixels of the target in each, (N, 2)
        int64.
    """
    shifts = _shifts(size, uniform, settings)
    samples = [
        sample(shift) if callable(sample) else _cropped(sample, size, shift)
        for sample, shift in zip(_augmented(patch, size, settings), shifts.tolist(), strict=True)
    ]
    return np.stack(samples), shifts


def shifted_boxes(box: np.ndarray, shifts: np.ndarray, settings: FirstFrame) -> np.ndarray:
    """Returns the target's box in each sample, xywh, (N + copies, 4); copies come last.

    As in the original, mirroring and rotating around the box's centre do not change the box.

    Args:
        box: xywh in pixels of the first sample, (4,).
        shifts: displacements (row, column) of N samples, (N, 2).
        settings: settings with the number of copies.
    """
    shifts = np.concatenate([shifts, shifts[:1].repeat(settings.copies, 0)]).astype(box.dtype)
    return box + np.concatenate([shifts[:, ::-1], np.zeros_like(shifts)], 1)


def dropout_factors(channels: int, uniform: Uniform, settings: FirstFrame) -> np.ndarray:
    """Returns factors (copies, channels) of the first sample's features, 0 for dropped channels.

    The copies are not normalised again.
    """
    kept = uniform(settings.copies, channels) >= settings.dropout
    return kept.astype(np.float32) / (1 - settings.dropout)


def _shifts(size: int, uniform: Uniform, settings: FirstFrame) -> np.ndarray:
    """Returns the displacements of all samples but the copies, (N, 2) int64."""
    far = math.trunc(settings.translation * size / 2)
    fixed = [(0, 0)] + ([(far, far), (-far, far), (far, -far), (-far, -far)] if settings.translation > 0 else [])
    moved = settings.count - settings.copies - len(fixed)
    drawn = np.trunc((uniform(moved, 2) - 0.5) * size * settings.random_shift)
    return np.concatenate([np.array(fixed, np.int64), drawn.astype(np.int64)])


def _augmented(
    patch: np.ndarray, size: int, settings: FirstFrame
) -> Iterator[np.ndarray | Callable[[list[int]], np.ndarray]]:
    """Yields for each sample the patch to be cropped, or a function from a displacement to the sample."""
    for _ in range(1 + 4 * (settings.translation > 0)):
        yield patch
    if settings.flip:
        yield patch[:, ::-1]
    for sigmas in settings.blurs:
        yield _blurred(patch, sigmas)
    for angle in settings.angles:
        yield lambda shift, angle=angle: _rotated(patch, size, shift, angle)


def _cropped(patch: np.ndarray, size: int, shift: list[int]) -> np.ndarray:
    rows, columns = _shown_pixels(patch, size, shift)
    return patch[rows][:, columns]


def _shown_pixels(patch: np.ndarray, size: int, shift: list[int]) -> list[np.ndarray]:
    """Returns the rows and columns of the patch that a sample shows, limited to the patch."""
    return [
        (np.arange(size) - (size - length) // 2 - by).clip(0, length - 1)
        for length, by in zip(patch.shape[:2], shift, strict=True)
    ]


def _blurred(patch: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """Blurs a patch with a Gaussian that is cut off at twice its deviation; the patch is zero outside."""
    kernels = []
    for sigma in sigmas:
        radius = math.ceil(2 * sigma)
        kernel = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
        kernels.append(kernel / kernel.sum())
    rows, columns = kernels
    return cv2.sepFilter2D(patch, cv2.CV_32F, columns, rows, borderType=cv2.BORDER_CONSTANT)


def _rotated(patch: np.ndarray, size: int, shift: list[int], angle: float) -> np.ndarray:
    """Returns a sample of the patch rotated around its centre: bilinear, with a repeated border."""
    rows, columns = _shown_pixels(patch, size, shift)
    height, width = patch.shape[:2]
    y, x = rows[:, None] - (height - 1) / 2, columns[None] - (width - 1) / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    row = (sin * x + cos * y + (height - 1) / 2).clip(0, height - 1)
    column = (cos * x - sin * y + (width - 1) / 2).clip(0, width - 1)
    # Interpolation weights are differences of large coordinates, so they need double precision.
    top, left = row.astype(np.int64), column.astype(np.int64)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    below, beside = (row - top)[..., None], (column - left)[..., None]
    upper = (1 - beside) * patch[top, left] + beside * patch[top, right]
    lower = (1 - beside) * patch[bottom, left] + beside * patch[bottom, right]
    return ((1 - below) * upper + below * lower).astype(patch.dtype)
