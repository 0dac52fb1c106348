"""Precise RoI pooling: the exact mean of a bilinear surface over the bins of a box."""

import torch
from torch import Tensor

from trackers.dimp.precision import at_least_single, no_autocast


def precise_roi_pool(features: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """Means of the features over a grid of bins in each box, differentiable in features and boxes.

    The map is zero outside, and bilinear between the centres of its cells, which lie at whole numbers. The integral
    of such a surface over a rectangle is a product of one matrix per axis with the map.

    Args:
        features: (N, C, H, W).
        boxes: K of each image (N, K, 4), xyxy in pixels; one without area gives zeros, and zero gradients.
        size: bins along each axis.
        scale: cells a pixel.

    Returns:
        (N, K, C, size, size), in float32 at least, whatever autocast says.
    """
    n, channels, height, width = features.shape
    k = boxes.shape[1]
    with no_autocast(features):
        features = at_least_single(features)
        x1, y1, x2, y2 = (boxes.to(features.dtype) * scale).unbind(-1)
        rows = bin_weights(y1, y2, size, height).reshape(n, k * size, height)
        columns = bin_weights(x1, x2, size, width).reshape(n * k, size, width)
        # A row of all channels is a column of this matrix, so that one product per image serves all of its boxes.
        over_rows = rows @ features.transpose(1, 2).reshape(n, height, channels * width)
        pooled = over_rows.view(n * k, size * channels, width) @ columns.transpose(1, 2)
        return pooled.view(n, k, size, channels, size).transpose(2, 3)


def bin_weights(low: Tensor, high: Tensor, bins: int, cells: int) -> Tensor:
    """How much each cell counts in the mean over each of the equal bins of an interval.

    Args:
        low, high: ends of the intervals (...), in cells.
        bins: number of bins.
        cells: number of cells.

    Returns:
        (..., bins, cells); zero, without gradient, where the interval is empty.
    """
    step = (high - low) / bins
    edges = low[..., None] + step[..., None] * torch.arange(bins + 1, device=low.device, dtype=low.dtype)
    u = (edges[..., None] - torch.arange(cells, device=low.device, dtype=low.dtype)).clamp(-1, 1)
    integral = u - u * u.abs() / 2  # of the hat function 1 - |u|, up to a constant
    mass = integral[..., 1:, :] - integral[..., :-1, :]
    filled = (step > 0)[..., None, None]
    # The inner `where` keeps the derivative of the quotient finite, the outer one drops it.
    return torch.where(filled, mass / torch.where(filled, step[..., None, None], 1), 0)
