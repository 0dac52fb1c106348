"""Label maps of targets: Gaussians around their centres."""

import math

import torch
from torch import Tensor


def gaussian_labels(boxes: Tensor, cells: int, stride: int, sigma: float, offset: float = 0.0) -> Tensor:
    """Returns Gaussians of height 1 around the centres of boxes, (..., F, F).

    Args:
        boxes: xywh in pixels, (..., 4).
        cells: side F of the map.
        stride: pixels per cell.
        sigma: standard deviation in cells.
        offset: position of a score in its cell, in cells: 0.5 for filters of odd size, else 0.
    """
    delta = centre_offsets(boxes, cells, stride, offset)
    x, y = torch.exp(delta.square() / (-2 * sigma**2)).unbind(-2)
    return y[..., :, None] * x[..., None, :]


def label_density(
    boxes: Tensor, cells: int, stride: int, sigma: float, offset: float = 0.0, normalise: bool = True
) -> Tensor:
    """Returns Gaussian densities around the centres of boxes, (..., F, F).

    Args:
        boxes, cells, stride, sigma, offset: see `gaussian_labels`.
        normalise: whether each map sums to 1. A map that contains at most 0.01 of the Gaussian then becomes uniform:
            the target lies outside.
    """
    density = gaussian_labels(boxes, cells, stride, sigma, offset) / (2 * math.pi * sigma**2)
    if not normalise:
        return density
    mass = density.sum((-2, -1), keepdim=True)
    return torch.where(mass > 0.01, density / (mass + 1e-8), 1 / cells**2)


def centre_offsets(boxes: Tensor, cells: int, stride: int, offset: float = 0.0) -> Tensor:
    """Returns the offsets (..., 2, F) in cells of a map's columns and rows from the centres of boxes (..., 4)."""
    centre = (boxes[..., :2] + boxes[..., 2:] / 2) / stride - offset
    return torch.arange(cells, device=boxes.device, dtype=boxes.dtype) - centre[..., None]
