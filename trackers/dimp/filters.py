"""Application of filters to features, its adjoint, and the initial filter.

Frames are dimension 0 of features, sequences dimension 1; a sequence's filter is applied to all of its frames. Scores
of a filter of even size have one more row and column than the features, and score i lies between cells i - 1 and i.

The application and its adjoint are one matrix product per frame. Features are read in the order of memory. Only tensors
with k * k channels (instead of D) are shifted and added, which costs less than convolutions with one output channel.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trackers.dimp.pooling import bin_weights
from trackers.dimp.precision import at_least_single, no_autocast


def score_cells(cells: int, size: int) -> int:
    """Returns the side of the score map of a filter of side `size` on features of `cells` cells per side."""
    return cells + 1 - size % 2


def apply_filter(features: Tensor, filter: Tensor) -> Tensor:
    """Correlates features with filters, with padding k // 2, in float32 at least.

    Args:
        features: (n, B, D, H, W).
        filter: (B, D, k, k).

    Returns:
        Scores (n, B, H', W'); H' = H + 1 for even k, H for odd k.
    """
    n, batch, _, height, width = features.shape
    size = int(filter.shape[-1])  # `torch.jit.trace` gives sizes as tensors, which `fold` does not take
    with no_autocast(features):
        features, filter = at_least_single(features), at_least_single(filter)
        # One part per entry of the filter. `fold` shifts each part in the entry's direction and adds all parts, but a
        # correlation shifts in the opposite direction, hence the flip.
        parts = filter.flip(-2, -1).flatten(2).transpose(1, 2) @ features.flatten(3)
        side = (score_cells(height, size), score_cells(width, size))
        scores = F.fold(parts.flatten(0, 1), side, size, padding=(size - 1) // 2)
        return scores.view(n, batch, *side)


def filter_gradient(features: Tensor, residuals: Tensor, size: int) -> Tensor:
    """Applies the adjoint of `apply_filter`: maps gradients of scores to gradients of filters.

    Args:
        features: (n, B, D, H, W).
        residuals: gradients of the scores, (n, B, H', W').
        size: side k of the filter.

    Returns:
        Gradients of the filters (B, D, k, k), summed over the frames, in float32 at least.
    """
    n, batch, channels = features.shape[:3]
    with no_autocast(features):
        features, residuals = at_least_single(features), at_least_single(residuals)
        parts = F.unfold(residuals.flatten(0, 1)[:, None], size, padding=(size - 1) // 2)
        gradient = (features.flatten(3) @ parts.view(n, batch, size * size, -1).transpose(2, 3)).sum(0)
        return gradient.view(batch, channels, size, size).flip(-2, -1)


class FilterInitialiser(nn.Module):
    """Initial filter: a convolution of the features, pooled in the target's boxes to the filter's size.

    Args:
        width: channels D of features and filter.
        filter_size: k.
        stride: pixels per cell.
        zero: whether filters start as zeros (PrDiMP).
    """

    def __init__(self, width: int, filter_size: int, stride: int, zero: bool = False):
        super().__init__()
        self.filter_size, self.stride = filter_size, stride
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0 if zero else math.sqrt(2 / (9 * width)))
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Returns filters (B, D, k, k) of features (n, B, D, H, W) with boxes (n, B, 4), xywh in pixels.

        Pooling, the mean over frames and the convolution are linear. So the nine shifts of the features that the
        convolution reads are pooled first, and the convolution runs on k * k cells per sequence, not on whole maps.
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
            # Result of pooling a map of ones. It is less than 1 where a box reaches outside of the map.
            ones = (rows.sum(-1)[..., :, None] * columns.sum(-1)[..., None, :]).mean(0)
            return filters + ones[:, None] * self.conv.get_parameter("bias")[:, None, None]


def _shifted(weights: Tensor) -> Tensor:
    """Returns bin weights (..., cells) for maps shifted by -1, 0 and 1 cells, (..., 3, cells)."""
    return F.pad(weights, (1, 1)).unfold(-1, weights.shape[-1], 1).flip(-2)
