"""What the tracker makes of its first frame: shifted, mirrored, blurred and rotated samples of the target."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Uniform = Callable[[int, int], Tensor]  # (rows, columns) -> random numbers in [0, 1)


@dataclass(frozen=True)
class FirstFrame:
    """Which samples are made of the first frame.

    Attributes:
        translation: four samples are displaced by this share of half their side, one to each corner; 0 leaves them out.
        flip: whether one is mirrored.
        blurs: one is blurred by each of these (row, column) standard deviations in pixels.
        angles: one is rotated by each of these angles in degrees, against the clock.
        random_shift: those that are mirrored, blurred or rotated are displaced by up to half of this, in sides.
        copies: of the first sample's features, with channels left out.
        dropout: probability of that for a channel.
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
        """Number of all samples: those that are made of pixels, and the copies."""
        return 1 + 4 * (self.translation > 0) + self.flip + len(self.blurs) + len(self.angles) + self.copies


def first_frame_samples(patch: Tensor, size: int, uniform: Uniform, settings: FirstFrame) -> tuple[Tensor, Tensor]:
    """The samples of which the tracker makes its first filter; the first is the picture as it is.

    Args:
        patch: (3, H, W) float around the target, larger than a sample; beyond its border that goes on.
        size: side of a sample, S.
        uniform: random numbers; asked once, for a row of (row, column) for each random displacement.
        settings: which samples.

    Returns:
        The samples (N, 3, S, S), and by how many pixels (row, column) each shows its target off centre, (N, 2) int64
        on the CPU.
    """
    shifts = _shifts(size, uniform, settings)
    samples = [
        sample(shift) if callable(sample) else _cropped(sample, size, shift)
        for sample, shift in zip(_changed(patch, size, settings), shifts.tolist(), strict=True)
    ]
    return torch.stack(samples), shifts


def shifted_boxes(box: Tensor, shifts: Tensor, settings: FirstFrame) -> Tensor:
    """The target's box in each sample, the copies of the first being the last ones.

    It stays what it is when its surroundings are mirrored or rotated around its centre, as in the original.

    Args:
        box: xywh in pixels of the first sample, (4,).
        shifts: (row, column) of N samples, (N, 2).
        settings: how many copies there are.

    Returns:
        xywh, (N + copies, 4).
    """
    shifts = torch.cat([shifts, shifts[:1].expand(settings.copies, 2)]).to(box)
    return box + torch.cat([shifts.flip(1), torch.zeros_like(shifts)], 1)


def dropout_copies(features: Tensor, uniform: Uniform, settings: FirstFrame) -> Tensor:
    """Copies (copies, D, H, W) of features (D, H, W) without some of their channels; they are not normalised again."""
    kept = uniform(settings.copies, len(features)) >= settings.dropout
    return features * (kept.to(features) / (1 - settings.dropout))[..., None, None]


def _shifts(size: int, uniform: Uniform, settings: FirstFrame) -> Tensor:
    """Displacements of all samples but the copies, (N, 2) int64."""
    far = math.trunc(settings.translation * size / 2)
    fixed = [(0, 0)] + ([(far, far), (-far, far), (far, -far), (-far, -far)] if settings.translation > 0 else [])
    moved = settings.count - settings.copies - len(fixed)
    drawn = torch.trunc((uniform(moved, 2).cpu() - 0.5) * size * settings.random_shift)
    return torch.cat([torch.tensor(fixed, device="cpu"), drawn.long()])


def _changed(patch: Tensor, size: int, settings: FirstFrame) -> Iterator[Tensor | Callable[[list[int]], Tensor]]:
    """For each sample the patch to crop, or what crops it."""
    for _ in range(1 + 4 * (settings.translation > 0)):
        yield patch
    if settings.flip:
        yield patch.flip(2)
    for sigmas in settings.blurs:
        yield _blurred(patch, sigmas)
    for angle in settings.angles:
        yield lambda shift, angle=angle: _rotated(patch, size, shift, angle)


def _cropped(patch: Tensor, size: int, shift: list[int]) -> Tensor:
    rows, columns = _places(patch, size, shift)
    return patch[:, rows][:, :, columns]


def _places(patch: Tensor, size: int, shift: list[int]) -> list[Tensor]:
    """Rows and columns of the patch that a sample shows; beyond its border that goes on."""
    return [
        (torch.arange(size, device=patch.device) - (size - length) // 2 - by).clamp(0, length - 1)
        for length, by in zip(patch.shape[1:], shift, strict=True)
    ]


def _blurred(patch: Tensor, sigmas: tuple[float, float]) -> Tensor:
    """A Gaussian of twice its deviation; zero outside of the patch."""
    blurred = patch[:, None]
    for sigma, shape in zip(sigmas, ((-1, 1), (1, -1)), strict=True):
        radius = math.ceil(2 * sigma)
        along = torch.arange(-radius, radius + 1, device=patch.device, dtype=patch.dtype)
        kernel = torch.exp(-(along**2) / (2 * sigma**2))
        blurred = F.conv2d(blurred, (kernel / kernel.sum()).view(1, 1, *shape), padding="same")
    return blurred[:, 0]


def _rotated(patch: Tensor, size: int, shift: list[int], angle: float) -> Tensor:
    """A sample of the patch rotated around its centre; bilinear, and its border goes on."""
    rows, columns = _places(patch, size, shift)
    height, width = patch.shape[1:]
    # Double precision until the coordinates are relative: whole pixels must not be lost in a large patch.
    y, x = rows[:, None].double() - (height - 1) / 2, columns[None].double() - (width - 1) / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    at = torch.stack([(cos * x - sin * y) / ((width - 1) / 2), (sin * x + cos * y) / ((height - 1) / 2)], -1)
    # In double precision, since weights between pixels of 0..255 are differences of coordinates of hundreds.
    return F.grid_sample(patch[None].double(), at[None], "bilinear", "border", align_corners=True)[0].to(patch)
