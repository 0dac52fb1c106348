"""Conversion of the pixels of crops to the input of a network."""

import torch
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(pixels: Tensor) -> Tensor:
    """Normalises crops (..., 3, H, W), 0 to 255, with ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def network_input(crops: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns normalised crops (B, 3, S, S) for the pixels of crops (B, S, S, 3), 0 to 255.

    Args:
        crops: uint8 or float32.
        dtype: type in which the network computes.
    """
    # In the order of memory in which networks are trained; convolutions round differently in another order.
    return normalise(crops.permute(0, 3, 1, 2).contiguous()).to(dtype)
