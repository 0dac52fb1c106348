"""Filters that are applied to features, and the first guess of one.

Frames are dimension 0 of features, sequences dimension 1: a sequence's filter is applied to all of its frames. Scores
of an even filter have one more row and column than the features, and score i lies on the border of cells i - 1 and i.

Both directions are one product per frame with the features as they lie in memory. Only what has a filter's k * k
entries in place of D channels is shifted and added, which makes this cheaper than convolutions of one output channel.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trackers.dimp.pooling import bin_weights
from trackers.dimp.precision import at_least_single, no_autocast


def score_cells(cells: int, size: int) -> int:
    """Side of the score map of a filter of this size on features with so many cells a side."""
    return cells + 1 - size % 2


def apply_filter(features: Tensor, filter: Tensor) -> Tensor:
    """Correlation with padding k // 2, in float32 at least.

    Args:
        features: (n, B, D, H, W).
        filter: (B, D, k, k).

    Returns:
        Scores (n, B, H', W'); H' = H + 1 for even k, H for odd k.
    """
    n, batch, _, height, width = features.shape
    size = filter.shape[-1]
    with no_autocast(features):
        features, filter = at_least_single(features), at_least_single(filter)
        # What each entry of the filter adds to the score at its place. `fold` moves parts to where their entry lies,
        # correlation to the opposite side, hence the flip.
        parts = filter.flip(-2, -1).flatten(2).transpose(1, 2) @ features.flatten(3)
        side = (score_cells(height, size), score_cells(width, size))
        scores = F.fold(parts.flatten(0, 1), side, size, padding=(size - 1) // 2)
        return scores.view(n, batch, *side)


def filter_gradient(features: Tensor, residuals: Tensor, size: int) -> Tensor:
    """The adjoint of `apply_filter`: what filter gives these scores their gradient.

    Args:
        features: (n, B, D, H, W).
        residuals: (n, B, H', W'), at the places of scores.
        size: k of the filter.

    Returns:
        (B, D, k, k), summed over the frames, in float32 at least.
    """
    n, batch, channels = features.shape[:3]
    with no_autocast(features):
        features, residuals = at_least_single(features), at_least_single(residuals)
        parts = F.unfold(residuals.flatten(0, 1)[:, None], size, padding=(size - 1) // 2)
        gradient = (features.flatten(3) @ parts.view(n, batch, size * size, -1).transpose(2, 3)).sum(0)
        return gradient.view(batch, channels, size, size).flip(-2, -1)


class FilterInitialiser(nn.Module):
    """A filter from what lies in the target's boxes: a convolution, pooled to the filter's size.

    Args:
        width: channels of features and filter, D.
        filter_size: k.
        stride: pixels a cell.
        zero: begin with filters of zeros (PrDiMP).
    """

    def __init__(self, width: int, filter_size: int, stride: int, zero: bool = False):
        super().__init__()
        self.filter_size, self.stride = filter_size, stride
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0 if zero else math.sqrt(2 / (9 * width)))
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Features (n, B, D, H, W) with a box in each, xywh in pixels (n, B, 4), to filters (B, D, k, k).

        Pooling, the mean over frames and the convolution are all linear. So the nine shifts of the features that the
        convolution reads are pooled first, and it runs on k * k cells per sequence rather than on whole maps.
        """
        with no_autocast(features):
            features = at_least_single(features)
            low = (boxes[..., :2] / self.stride).to(features.dtype)
            high = low + boxes[..., 2:] / self.stride
            columns, rows = (
                bin_weights(low[..., axis], high[..., axis], self.filter_size, features.shape[-1 - axis])
                for axis in range(2)
            )
            across = torch.einsum("nbdhw,nbqjw->nbdhqj", features, _shifted(columns))
            pooled = torch.einsum("nbdhqj,nbpih->bdpiqj", across, _shifted(rows)) / len(features)
            filters = torch.einsum("bdpiqj,edij->bepq", pooled, self.conv.weight.to(features.dtype))
            # What a map of ones pools to: less than 1 where a box leaves the map.
            ones = (rows.sum(-1)[..., :, None] * columns.sum(-1)[..., None, :]).mean(0)
            return filters + ones[:, None] * self.conv.bias[:, None, None]


def _shifted(weights: Tensor) -> Tensor:
    """Weights of bins (..., cells) for maps that are read one cell before, in and one cell behind: (..., 3, cells)."""
    return F.pad(weights, (1, 1)).unfold(-1, weights.shape[-1], 1).flip(-2)
