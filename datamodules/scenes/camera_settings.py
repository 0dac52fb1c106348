"""Draws the settings of the simulated camera for each crop; `apply_camera` applies them."""

import numpy as np
from numpy.random import Generator

from datamodules.augmentation import Augmentation
from datamodules.scenes.camera import SCALES, SETTINGS
from datamodules.scenes.photo_realism import PhotoRealism


def draw_camera_settings(
    rng: Generator,
    gap: np.ndarray,
    magnification: np.ndarray,
    augmentation: Augmentation,
    realism: PhotoRealism,
    brightness: np.ndarray,
    deviation: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the camera settings (B, V, 12), see `SETTINGS`, and the scale at which the sensor sees a crop (B, V).

    Args:
        rng: random generator.
        gap: (B, V), time gap of each crop.
        magnification: (B, V), crop pixels per frame pixel.
        augmentation, realism: see `draw_scenes`.
        brightness, deviation: (B,) in 0..1, mean and standard deviation of the brightness of what the camera is exposed
            for.
    """
    count = len(gap)

    def varying(spread: float, change: float) -> np.ndarray:
        """Returns numbers (B, V) that differ between samples, and within a sample by its time gaps."""
        return spread * rng.standard_normal((count, 1)) + change * gap * rng.standard_normal(gap.shape)

    def sometimes(probability: float, values: np.ndarray, otherwise: float | np.ndarray = 0.0) -> np.ndarray:
        return np.where(rng.random((count, 1)) < probability, values, otherwise)

    gamma = np.exp(varying(0.2, 0.2))
    gain = np.exp(varying(0.1, 0.12)) * rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness, gap.shape)
    middle = brightness.clip(0.02)[:, None] ** gamma
    gain *= (0.5 / middle).clip(0.5, 3) ** realism.exposure
    gains = [gain * np.exp(varying(0.07, 0.08)) for _ in range(3)]
    stretch = (realism.contrast / deviation.clip(0.01)).clip(0.7, 4)[:, None]
    stretch = stretch * np.exp(varying(0.3, 0.1))
    contrast = stretch if realism.contrast else np.ones(gap.shape)
    saturation = sometimes(0.62, rng.uniform(0.15, 0.8, (count, 1)), 1.0)
    saturation = sometimes(augmentation.gray, np.zeros((count, 1)), saturation)
    haze = sometimes(0.12, rng.uniform(0.1, 0.4, (count, 1)))
    blur = np.where(rng.random(gap.shape) < 0.2, rng.uniform(0.5, 3.0, gap.shape), 0.0)
    sharpen = sometimes(0.7, realism.sharpen * rng.random((count, 1)))
    # Small windows are enlarged: the sensor had fewer pixels than the crop, whatever the lens.
    scale = np.minimum(1.0, 1 / magnification) * sometimes(0.4, np.exp(-np.abs(rng.normal(0, 0.5, (count, 1)))), 1.0)
    noise = sometimes(0.45, rng.uniform(1.5, 9, (count, 1))) / 255
    quality = sometimes(0.4, rng.uniform(15, 85, (count, 1)), 100.0)
    settings = (gamma, *gains, saturation, contrast, middle * gain, haze, blur, sharpen, noise, quality)
    return np.stack([np.broadcast_to(setting, gap.shape) for setting in settings], -1), scale


def find_affected(settings: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    """Returns the `affected` argument of `apply_camera`: numbers of the crops that each slow effect changes."""
    nearest = np.abs(scale[..., None] - SCALES).argmin(-1)
    blurred, compressed = settings[..., SETTINGS.index("blur")] > 0, settings[..., SETTINGS.index("quality")] < 100
    coarse = (nearest == i for i in range(1, len(SCALES)))
    return [np.flatnonzero(mask) for mask in (blurred, compressed, *coarse)]
