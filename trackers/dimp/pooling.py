"""Precise RoI pooling: exact means of a bilinear surface over the bins of a box."""

import torch
from torch import Tensor

from trackers.dimp.precision import at_least_single, no_autocast


def precise_roi_pool(features: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """Returns means of features over a grid of bins in each box, differentiable in features and boxes.

    The surface is bilinear between the centres of cells, which lie at integers, and zero outside of the map. Its
    integral over a rectangle is the product of one matrix per axis with the map.

    Args:
        features: (N, C, H, W).
        boxes: K boxes per image (N, K, 4), xyxy in pixels. A box without area gives zeros and zero gradients.
        size: bins along each axis.
        scale: cells per pixel.

    Returns:
        (N, K, C, size, size), in float32 at least, whatever the autocast.
    """
    n, channels, height, width = features.shape
    k = boxes.shape[1]
    with no_autocast(features):
        features = at_least_single(features)
        x1, y1, x2, y2 = (boxes.to(features.dtype) * scale).unbind(-1)
        rows = bin_weights(y1, y2, size, height).reshape(n, k * size, height)
        columns = bin_weights(x1, x2, size, width).reshape(n * k, size, width)
        # Rows of all channels form one matrix, so that one product per image serves all of its boxes.
        over_rows = rows @ features.transpose(1, 2).reshape(n, height, channels * width)
        pooled = over_rows.view(n * k, size * channels, width) @ columns.transpose(1, 2)
        return pooled.view(n, k, size, channels, size).transpose(2, 3)


def bin_weights(low: Tensor, high: Tensor, bins: int, cells: int) -> Tensor:
    """Returns the weight of each cell in the mean over each of the equal bins of an interval.

    Args:
        low, high: ends of the intervals (...), in cells.
        bins: number of bins.
        cells: number of cells.

    Returns:
        (..., bins, cells); zero and without gradient where the interval is empty.
    """
    step = (high - low) / bins
    edges = low[..., None] + step[..., None] * torch.arange(bins + 1, device=low.device, dtype=low.dtype)
    u = (edges[..., None] - torch.arange(cells, device=low.device, dtype=low.dtype)).clamp(-1, 1)
    integral = u - u * u.abs() / 2  # antiderivative of the hat function 1 - |u|, up to a constant
    mass = integral[..., 1:, :] - integral[..., :-1, :]
    filled = (step > 0)[..., None, None]
    # The inner `where` keeps the gradient of the quotient finite; the outer one sets it to zero.
    return torch.where(filled, mass / torch.where(filled, step[..., None, None], 1), 0)
