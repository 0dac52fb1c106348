"""The simulated camera of scenes for crops of real pictures.

Loader processes draw its settings, and the training device applies them to the crops. The crops of a still picture get
a camera each: the picture alone would not teach that a target changes its looks. The crops of a video get one camera
whose settings change with time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from datamodules.augmentation import Augmentation, LabelledCrop
from datamodules.scenes.camera import apply_camera
from datamodules.scenes.camera_settings import draw_camera_settings, find_affected
from datamodules.scenes.photo_realism import PhotoRealism

# Photographs have their exposure already, and cameras have sharpened them once.
LOOK = PhotoRealism(contrast=0.17, sharpen=1.0)
UNCHANGED = Augmentation(gray=0.0, flip=0.0, flip_each=0.0, brightness=0.0)  # crops are augmented before
ROLES = ("template", "search")


def draw_crop_cameras(
    rng: Generator, share: float, still: bool, crops: Sequence[LabelledCrop], templates: int
) -> dict[str, Tensor]:
    """Draws the settings of the camera for the crops of one sample.

    Args:
        rng: random generator.
        share: probability that the camera changes the crops.
        still: whether all crops show one picture.
        crops: T templates, and S search regions after them. Contrast changes around their mean brightness.
        templates: T.

    Returns:
        "template_camera" (T, 13) and "search_camera" (S, 13): the settings of `apply_camera`, and the resolution of the
        sensor over that of the crop; 0 for crops that stay as they are. "noise_seed" (), seed of the noise.
    """
    count = len(crops)
    settings = np.zeros((count, 13))
    if rng.random() < share:
        if still:
            gap = np.ones((count, 1))
        else:
            gap = rng.random((1, count)) ** 0.7
            gap[:, 0] = 0
        brightness = np.array([_brightness(crop) for crop in crops[: len(gap)]])
        deviation = np.full(len(gap), LOOK.contrast)  # a photograph needs no stretching, but for random changes
        drawn, scale = draw_camera_settings(rng, gap, np.ones(gap.shape), UNCHANGED, LOOK, brightness, deviation)
        settings = np.concatenate([drawn.reshape(count, -1), scale.reshape(count, 1)], 1)
    settings = torch.from_numpy(settings.astype(np.float32))
    seed = torch.tensor(int(rng.integers(2**31)))
    return {"template_camera": settings[:templates], "search_camera": settings[templates:], "noise_seed": seed}


def _brightness(crop: LabelledCrop) -> float:
    """Returns the mean of all colours of a crop without its padding, in 0..1; 0 if there is only padding."""
    rows, columns = ~crop.padding
    shown = crop.picture[rows][:, columns]
    return float(shown.mean()) / 255 if shown.size else 0.0


def plan_cameras(batch: dict[str, Any]) -> dict[str, Any]:
    """Finds the crops of a batch that the camera changes, before the batch goes to its device.

    Args:
        batch: stacked samples with the entries of `draw_crop_cameras`, or without them.

    Returns:
        The batch with a plan in place of these entries, for `apply_cameras`.
    """
    if "noise_seed" not in batch:
        return batch
    plans = {}
    for role in ROLES:
        settings = batch[f"{role}_camera"].flatten(0, 1)
        crops = settings.any(1).nonzero()[:, 0]
        chosen, scale = settings[crops, :-1], settings[crops, -1].numpy()
        affected = [torch.from_numpy(numbers) for numbers in find_affected(chosen.numpy(), scale)]
        plans[role] = {"crops": crops, "settings": chosen, "affected": affected}
    drawn = ("template_camera", "search_camera", "noise_seed")
    return {name: value for name, value in batch.items() if name not in drawn} | {
        "cameras": plans | {"seed": int(batch["noise_seed"][0])}
    }


@torch.no_grad()
def apply_cameras(batch: dict[str, Any]) -> dict[str, Any]:
    """Applies the plan of `plan_cameras` to the crops of a batch. Rows and columns with padding stay as they are."""
    if "cameras" not in batch:
        return batch
    plans, batch = batch["cameras"], {name: value for name, value in batch.items() if name != "cameras"}
    generator = torch.Generator(batch["search"].device).manual_seed(plans["seed"])
    for role in ROLES:
        plan = plans[role]
        crops = plan["crops"]
        if len(crops):
            pictures = batch[role].flatten(0, 1)
            before = pictures[crops]
            after = apply_camera(before.float() / 255, plan["settings"], plan["affected"], generator)
            rows, columns = batch[f"{role}_padding"].flatten(0, 1)[crops].unbind(1)
            padded = (rows[:, :, None] | columns[:, None])[:, None]
            pictures = pictures.clone()
            pictures[crops] = torch.where(padded, before, (255 * after).round().to(torch.uint8))
            batch[role] = pictures.unflatten(0, batch[role].shape[:2])
    return batch
