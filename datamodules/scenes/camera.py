"""The simulated camera: exposure, lens, sensor and compression of rendered crops."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
# Annex K of the JPEG standard: the luminance quantisation table at quality 50.
TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
# Settings of a crop: gamma; gains of three colours; saturation; a contrast that keeps the brightness `middle`; haze;
# blur in pixels; sharpening; the standard deviation of the noise in 0..1; JPEG quality.
SETTINGS = (
    *("gamma", "red", "green", "blue", "saturation", "contrast", "middle"),
    *("haze", "blur", "sharpen", "noise", "quality"),
)
SCALES = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)  # resolution of the sensor over that of the crop
REACH = 4  # pixels; half the width of a blur kernel


def apply_camera(picture: Tensor, settings: Tensor, affected: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Returns pictures (M, 3, S, S) in 0..1 as a camera would have taken them.

    Args:
        picture: rendered pictures, (M, 3, S, S) in 0..1.
        settings: (M, 12), see `SETTINGS`.
        affected: numbers of the blurred pictures, numbers of the compressed pictures, and, for each of `SCALES` but the
            first, numbers of the pictures from a sensor of this resolution.
        generator: random generator of the noise.
    """
    gamma, *gains, saturation, contrast, middle, haze, blur, sharpen, noise, quality = settings.unbind(1)
    blurred, compressed, *coarse = affected
    luma = picture.new_tensor(LUMA).view(3, 1, 1)
    grey = (picture * luma).sum(1, keepdim=True)
    picture = grey + (picture - grey) * _expand(saturation)
    picture = picture.clamp(1e-4, 1) ** _expand(gamma) * torch.stack(gains, 1)[..., None, None]
    picture = (_expand(middle) + (picture - _expand(middle)) * _expand(contrast)).clamp(0, 1)
    picture = (picture + (0.7 - picture) * _expand(haze)).clamp(0, 1)
    if len(blurred):
        picture[blurred] = _blur(picture[blurred], blur[blurred])
    for scale, chosen in zip(SCALES[1:], coarse, strict=True):
        if len(chosen):
            picture[chosen] = _lower_resolution(picture[chosen], scale)
    soft = F.avg_pool2d(F.pad(picture, [1] * 4, mode="replicate"), 3, 1)
    picture = (picture + (picture - soft) * _expand(sharpen)).clamp(0, 1)
    grain = torch.randn(picture.shape, device=picture.device, generator=generator)
    picture = (picture + grain * _expand(noise)).clamp(0, 1)
    if len(compressed):
        picture[compressed] = _compress(picture[compressed], quality[compressed])
    return picture


def _expand(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _blur(picture: Tensor, length: Tensor) -> Tensor:
    """Applies defocus or motion blur: a Gaussian of two widths, whose direction follows from its length."""
    ticks = torch.arange(-REACH, REACH + 1, device=picture.device)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    turn = 40 * length[:, None, None]  # lengths are random, so this angle is about uniform
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    narrow = torch.where((10 * length).frac() < 0.5, length, 0.3 + 0.1 * length)[:, None, None]
    kernel = torch.exp(-((along / length[:, None, None]) ** 2 + (across / narrow) ** 2) / 2)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = F.pad(picture, [REACH] * 4, mode="replicate").flatten(0, 1)[None]
    return F.conv2d(flat, kernel, groups=len(kernel)).unflatten(1, (-1, 3))[0]


def _lower_resolution(picture: Tensor, scale: float) -> Tensor:
    """Shrinks pictures by a factor and enlarges them again."""
    size = picture.shape[-1]
    small = F.interpolate(picture, size=max(4, round(size * scale)), mode="area")
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def _compress(picture: Tensor, quality: Tensor) -> Tensor:
    """Quantises the cosine transform of 8 x 8 blocks as JPEG does, colour twice as coarsely but at full resolution."""
    size = picture.shape[-1]
    padding = -size % 8
    padded = F.pad(picture, [0, padding, 0, padding], mode="replicate") * 255 - 128
    luma = padded.new_tensor(LUMA).view(3, 1, 1)
    grey = (padded * luma).sum(1, keepdim=True)
    channels = torch.cat([grey, padded[:, :1] - grey, padded[:, 2:] - grey], 1)
    k = torch.arange(8, device=padded.device)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    blocks = channels.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)  # (M, 3, rows, columns, 8, 8)
    percent = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (padded.new_tensor(TABLE) * percent[:, None, None]).clamp_min(1)[:, None]
    table = (table * padded.new_tensor((1, 2, 2)).view(3, 1, 1))[:, :, None, None]
    blocks = cosines.T @ ((cosines @ blocks @ cosines.T / table).round() * table) @ cosines
    channels = blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)[..., :size, :size]
    grey, red, blue = channels.unbind(1)
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return ((torch.stack([red, green, blue], 1) + grey[:, None] + 128) / 255).clamp(0, 1)
