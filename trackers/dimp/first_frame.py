"""Augmented samples of the first frame: displaced, mirrored, blurred and rotated copies."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Uniform = Callable[[int, int], Tensor]  # (rows, columns) -> random numbers in [0, 1)


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


def first_frame_samples(patch: Tensor, size: int, uniform: Uniform, settings: FirstFrame) -> tuple[Tensor, Tensor]:
    """Returns the samples from which the tracker learns its first filter; the first sample is not changed.

    Args:
        patch: pixels around the target, (3, H, W) float, larger than a sample. Outside of it, its border is repeated.
        size: side S of a sample in pixels.
        uniform: source of random numbers. It is called once, with a row for each random displacement.
        settings: samples to be made.

    Returns:
        The samples (N, 3, S, S), and the displacement (row, column) in pixels of the target in each, (N, 2) int64 on
        the CPU.
    """
    shifts = _shifts(size, uniform, settings)
    samples = [
        sample(shift) if callable(sample) else _cropped(sample, size, shift)
        for sample, shift in zip(_augmented(patch, size, settings), shifts.tolist(), strict=True)
    ]
    return torch.stack(samples), shifts


def shifted_boxes(box: Tensor, shifts: Tensor, settings: FirstFrame) -> Tensor:
    """Returns the target's box in each sample, xywh, (N + copies, 4); copies come last.

    As in the original, mirroring and rotating around the box's centre do not change the box.

    Args:
        box: xywh in pixels of the first sample, (4,).
        shifts: displacements (row, column) of N samples, (N, 2).
        settings: settings with the number of copies.
    """
    shifts = torch.cat([shifts, shifts[:1].expand(settings.copies, 2)]).to(box)
    return box + torch.cat([shifts.flip(1), torch.zeros_like(shifts)], 1)


def dropout_copies(features: Tensor, uniform: Uniform, settings: FirstFrame) -> Tensor:
    """Returns copies (copies, D, H, W) of features (D, H, W) with dropped channels, without a new normalisation."""
    kept = uniform(settings.copies, len(features)) >= settings.dropout
    return features * (kept.to(features) / (1 - settings.dropout))[..., None, None]


def _shifts(size: int, uniform: Uniform, settings: FirstFrame) -> Tensor:
    """Returns the displacements of all samples but the copies, (N, 2) int64."""
    far = math.trunc(settings.translation * size / 2)
    fixed = [(0, 0)] + ([(far, far), (-far, far), (far, -far), (-far, -far)] if settings.translation > 0 else [])
    moved = settings.count - settings.copies - len(fixed)
    drawn = torch.trunc((uniform(moved, 2).cpu() - 0.5) * size * settings.random_shift)
    return torch.cat([torch.tensor(fixed, device="cpu"), drawn.long()])


def _augmented(patch: Tensor, size: int, settings: FirstFrame) -> Iterator[Tensor | Callable[[list[int]], Tensor]]:
    """Yields for each sample the patch to be cropped, or a function from a displacement to the sample."""
    for _ in range(1 + 4 * (settings.translation > 0)):
        yield patch
    if settings.flip:
        yield patch.flip(2)
    for sigmas in settings.blurs:
        yield _blurred(patch, sigmas)
    for angle in settings.angles:
        yield lambda shift, angle=angle: _rotated(patch, size, shift, angle)


def _cropped(patch: Tensor, size: int, shift: list[int]) -> Tensor:
    rows, columns = _shown_pixels(patch, size, shift)
    return patch[:, rows][:, :, columns]


def _shown_pixels(patch: Tensor, size: int, shift: list[int]) -> list[Tensor]:
    """Returns the rows and columns of the patch that a sample shows, limited to the patch."""
    return [
        (torch.arange(size, device=patch.device) - (size - length) // 2 - by).clamp(0, length - 1)
        for length, by in zip(patch.shape[1:], shift, strict=True)
    ]


def _blurred(patch: Tensor, sigmas: tuple[float, float]) -> Tensor:
    """Blurs a patch with a Gaussian that is cut off at twice its deviation; the patch is zero outside."""
    blurred = patch[:, None]
    for sigma, shape in zip(sigmas, ((-1, 1), (1, -1)), strict=True):
        radius = math.ceil(2 * sigma)
        along = torch.arange(-radius, radius + 1, device=patch.device, dtype=patch.dtype)
        kernel = torch.exp(-(along**2) / (2 * sigma**2))
        blurred = F.conv2d(blurred, (kernel / kernel.sum()).view(1, 1, *shape), padding="same")
    return blurred[:, 0]


def _rotated(patch: Tensor, size: int, shift: list[int], angle: float) -> Tensor:
    """Returns a sample of the patch rotated around its centre: bilinear, with a repeated border."""
    rows, columns = _shown_pixels(patch, size, shift)
    height, width = patch.shape[1:]
    # Double precision keeps coordinates of a large patch exact until they are relative.
    y, x = rows[:, None].double() - (height - 1) / 2, columns[None].double() - (width - 1) / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    at = torch.stack([(cos * x - sin * y) / ((width - 1) / 2), (sin * x + cos * y) / ((height - 1) / 2)], -1)
    # Interpolation weights are differences of large coordinates, so they need double precision, too.
    return F.grid_sample(patch[None].double(), at[None], "bilinear", "border", align_corners=True)[0].to(patch)
