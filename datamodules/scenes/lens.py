"""What light, lens, sensor and codec do to rendered crops."""

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
# What a crop's "light" is: gains of three colours; a contrast that leaves the brightness `middle` as it is; a blur in
# pixels; the standard deviation of the noise; the quality of the compression.
LIGHT = (
    *("gamma", "red", "green", "blue", "saturation", "contrast", "middle"),
    *("haze", "blur", "sharpen", "noise", "quality"),
)
SCALES = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)  # of what the sensor saw of a crop; the first changes nothing
REACH = 4  # pixels: of a blur


def expose(picture: Tensor, light: Tensor, changed: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Pictures (M, 3, S, S) in 0..1 as a camera would have taken them.

    Args:
        picture: rendered.
        light: (M, 12), see `LIGHT`.
        changed: numbers of the pictures that are blurred, of those that are compressed, and of those that the sensor
            saw at each of `SCALES` but the first.
        generator: of the noise.
    """
    gamma, *gains, colour, contrast, middle, haze, blur, sharpen, noise, quality = light.unbind(1)
    blurred, compressed, *coarse = changed
    luma = picture.new_tensor(LUMA).view(3, 1, 1)
    grey = (picture * luma).sum(1, keepdim=True)
    picture = grey + (picture - grey) * _wide(colour)
    picture = picture.clamp(1e-4, 1) ** _wide(gamma) * torch.stack(gains, 1)[..., None, None]
    picture = (_wide(middle) + (picture - _wide(middle)) * _wide(contrast)).clamp(0, 1)
    picture = (picture + (0.7 - picture) * _wide(haze)).clamp(0, 1)
    if len(blurred):
        picture[blurred] = _blurred(picture[blurred], blur[blurred])
    for scale, chosen in zip(SCALES[1:], coarse, strict=True):
        if len(chosen):
            picture[chosen] = _enlarged(picture[chosen], scale)
    soft = F.avg_pool2d(F.pad(picture, [1] * 4, mode="replicate"), 3, 1)
    picture = (picture + (picture - soft) * _wide(sharpen)).clamp(0, 1)
    grain = torch.randn(picture.shape, device=picture.device, generator=generator)
    picture = (picture + grain * _wide(noise)).clamp(0, 1)
    if len(compressed):
        picture[compressed] = _compressed(picture[compressed], quality[compressed])
    return picture


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _blurred(picture: Tensor, length: Tensor) -> Tensor:
    """Out of focus, or moved: a Gaussian whose two axes differ, along a direction that its length decides."""
    ticks = torch.arange(-REACH, REACH + 1, device=picture.device)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    turn = 40 * length[:, None, None]  # as good as random
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    narrow = torch.where((10 * length).frac() < 0.5, length, 0.3 + 0.1 * length)[:, None, None]
    kernel = torch.exp(-((along / length[:, None, None]) ** 2 + (across / narrow) ** 2) / 2)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = F.pad(picture, [REACH] * 4, mode="replicate").flatten(0, 1)[None]
    return F.conv2d(flat, kernel, groups=len(kernel)).unflatten(1, (-1, 3))[0]


def _enlarged(picture: Tensor, scale: float) -> Tensor:
    """As enlarged from a picture that is smaller by a factor."""
    size = picture.shape[-1]
    small = F.interpolate(picture, size=max(4, round(size * scale)), mode="area")
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def _compressed(picture: Tensor, quality: Tensor) -> Tensor:
    """Quantised cosines of blocks, as JPEG has them; brightness as it is, colours twice as coarse."""
    size = picture.shape[-1]
    padding = -size % 8
    wide = F.pad(picture, [0, padding, 0, padding], mode="replicate") * 255 - 128
    luma = wide.new_tensor(LUMA).view(3, 1, 1)
    grey = (wide * luma).sum(1, keepdim=True)
    split = torch.cat([grey, wide[:, :1] - grey, wide[:, 2:] - grey], 1)
    k = torch.arange(8, device=wide.device)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    blocks = split.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)  # (M, 3, rows, columns, 8, 8)
    percent = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (wide.new_tensor(TABLE) * percent[:, None, None]).clamp_min(1)[:, None]
    table = (table * wide.new_tensor((1, 2, 2)).view(3, 1, 1))[:, :, None, None]
    blocks = cosines.T @ ((cosines @ blocks @ cosines.T / table).round() * table) @ cosines
    back = blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)[..., :size, :size]
    grey, red, blue = back.unbind(1)
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return ((torch.stack([red, green, blue], 1) + grey[:, None] + 128) / 255).clamp(0, 1)
