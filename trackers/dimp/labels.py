"""Maps of where a target is: Gaussians around its centre."""

import math

import torch
from torch import Tensor


def gaussian_labels(boxes: Tensor, cells: int, stride: int, sigma: float, offset: float = 0.0) -> Tensor:
    """Gaussians of height 1 around the centres of boxes.

    Args:
        boxes: xywh in pixels, (..., 4).
        cells: side of the map, F.
        stride: pixels a cell.
        sigma: in cells.
        offset: what lies between a score's index and its place in the crop, in cells: 0.5 for odd filters, else 0.

    Returns:
        (..., F, F).
    """
    delta = centre_offsets(boxes, cells, stride, offset)
    x, y = torch.exp(delta.square() / (-2 * sigma**2)).unbind(-2)
    return y[..., :, None] * x[..., None, :]


def label_density(
    boxes: Tensor, cells: int, stride: int, sigma: float, offset: float = 0.0, normalise: bool = True
) -> Tensor:
    """The same Gaussians with an integral of 1.

    Args:
        boxes, cells, stride, sigma, offset: see `gaussian_labels`.
        normalise: make the sum over the map 1; a map with not more than 0.01 of the Gaussian becomes uniform, as it
            says nothing about where in it the target is.

    Returns:
        (..., F, F).
    """
    density = gaussian_labels(boxes, cells, stride, sigma, offset) / (2 * math.pi * sigma**2)
    if not normalise:
        return density
    mass = density.sum((-2, -1), keepdim=True)
    return torch.where(mass > 0.01, density / (mass + 1e-8), 1 / cells**2)


def centre_offsets(boxes: Tensor, cells: int, stride: int, offset: float = 0.0) -> Tensor:
    """How far each column and each row of a map lies from the centres of boxes (..., 4): (..., 2, F), in cells."""
    centre = (boxes[..., :2] + boxes[..., 2:] / 2) / stride - offset
    return torch.arange(cells, device=boxes.device, dtype=boxes.dtype) - centre[..., None]
