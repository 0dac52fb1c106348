"""Draws the light, lens, sensor and codec of each crop, which `expose` then applies."""

import numpy as np
from numpy.random import Generator

from datamodules.augmentation import Augmentation
from datamodules.scenes.bank import Bank
from datamodules.scenes.lens import LIGHT, LUMA, SCALES
from datamodules.scenes.photo_realism import PhotoRealism


def light_of(
    rng: Generator,
    gap: np.ndarray,
    sharp: np.ndarray,
    augmentation: Augmentation,
    look: PhotoRealism,
    bank: Bank,
    ground: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The "light" of `expose`, (B, V, 12), and the scale at which a sensor sees crops (B, V).

    Args:
        rng: of all that is drawn.
        gap: (B, V), how far each moment is from the first.
        sharp: (B, V), crop pixels a frame pixel.
        augmentation, look, bank: see `draw`.
        ground: (B,), numbers of the backdrops that cameras are set for.
    """
    count = len(gap)

    def slow(spread: float, change: float) -> np.ndarray:
        """Numbers (B, V) that differ between samples, and between moments by the gap."""
        return spread * rng.standard_normal((count, 1)) + change * gap * rng.standard_normal(gap.shape)

    def sometimes(share: float, values: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
        return np.where(rng.random((count, 1)) < share, values, otherwise)

    gamma = np.exp(slow(0.2, 0.2))
    bright = np.exp(slow(0.1, 0.12)) * rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness, gap.shape)
    middle = (bank.tones.numpy()[ground] @ np.array(LUMA)).clip(0.02)[:, None] ** gamma
    bright *= (0.5 / middle).clip(0.5, 3) ** look.exposure
    cast = [bright * np.exp(slow(0.07, 0.08)) for _ in range(3)]
    wanted = (look.contrast / bank.spreads.numpy()[ground].clip(0.01)).clip(0.7, 4)[:, None] * np.exp(slow(0.3, 0.1))
    contrast = wanted if look.contrast else np.ones(gap.shape)
    colour = sometimes(0.62, rng.uniform(0.15, 0.8, (count, 1)), 1.0)
    colour = sometimes(augmentation.gray, np.zeros((count, 1)), colour)
    haze = sometimes(0.12, rng.uniform(0.1, 0.4, (count, 1)))
    blur = np.where(rng.random(gap.shape) < 0.2, rng.uniform(0.5, 3.0, gap.shape), 0.0)
    sharpen = sometimes(0.7, look.sharpen * rng.random((count, 1)))
    # Small windows are enlarged, which no sharper lens can mend.
    detail = np.minimum(1.0, 1 / sharp) * sometimes(0.4, np.exp(-np.abs(rng.normal(0, 0.5, (count, 1)))), 1.0)
    noise = sometimes(0.45, rng.uniform(1.5, 9, (count, 1))) / 255
    quality = sometimes(0.4, rng.uniform(15, 85, (count, 1)), 100.0)
    parts = (gamma, *cast, colour, contrast, middle * bright, haze, blur, sharpen, noise, quality)
    return np.stack([np.broadcast_to(part, gap.shape) for part in parts], -1), detail


def changed(light: np.ndarray, detail: np.ndarray) -> list[np.ndarray]:
    """The "changed" of `expose`."""
    step = np.abs(detail[..., None] - SCALES).argmin(-1)
    blurred, compressed = light[..., LIGHT.index("blur")] > 0, light[..., LIGHT.index("quality")] < 100
    return [np.flatnonzero(chosen) for chosen in (blurred, compressed, *(step == i for i in range(1, len(SCALES))))]
