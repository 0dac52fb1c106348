"""Turns drawn scenes into the entries of a training batch."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.scenes.bank import Bank, load_bank
from datamodules.scenes.renderer import Renderer
from trackers.crops import CropSpec

Roles = Sequence[tuple[str, CropSpec]]


def check_crops(roles: Roles, negatives: float) -> None:
    """Checks that scenes can be rendered for these crops.

    Args:
        roles: "template" and "search" with their crops.
        negatives: fraction of samples that do not show the target.

    Raises:
        DataError: a crop has compat="reference", or there are negatives.
    """
    if negatives:
        raise DataError(f"scenes always show the target, so tracker.recipe.negatives={negatives} must be 0")
    for name, spec in roles:
        if spec.compat != "exact":
            raise DataError(
                f"scenes are rendered for exact crops, not for {spec.compat}; set tracker.{name}.compat=exact"
            )


def render_batch(batch: Mapping[str, Any], roles: Roles, bank_file: Path) -> dict[str, Tensor]:
    """Renders drawn scenes on their device. The result has the entries that `trackers.base.Tracker` trains on.

    Args:
        batch: drawn by `draw_scenes`, with "seed", the seed of the noise; tensors on the training device.
        roles: "template" and "search" with their crops.
        bank_file: file of the bank.
    """
    device = batch["search"]["box"].device
    render = _load_renderer(bank_file, device)
    generator = torch.Generator(device).manual_seed(batch["seed"])
    result = {}
    for role, spec in roles:
        scene = batch[role]
        result[role] = render(scene, spec.size, spec.repeats_border, generator)
        result |= {f"{role}_box": scene["box"], f"{role}_padding": scene["padding"]}
    return result | {"present": torch.ones_like(result["search_box"][..., 0])}


@lru_cache(maxsize=1)
def load_bank_once(file: Path) -> Bank:
    """Loads the bank once for all stages of a process."""
    return load_bank(file)


@lru_cache(maxsize=1)
def _load_renderer(file: Path, device: torch.device) -> Renderer:
    return Renderer(Bank(*(tensor.to(device) for tensor in load_bank_once(file))))
