"""Refinement of boxes by gradient ascent on their scores, with gradients in closed form.

A score is a sum over levels of `gain . relu(W (m * pooled) + shift)`, and `pooled` is `rows @ map @ columns`. Only the
small matrices `rows` and `columns` depend on the box, and their derivatives are hat functions. So gradients need no
autograd: they work in inference mode, keep no activations and can be exported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.boxes import xywh_to_xyxy
from trackers.dimp.pooling import bin_weights
from trackers.dimp.precision import no_autocast
from trackers.dimp.proposals import from_relative, to_relative
from trackers.dimp.regressor import BoxRegressor, Hidden, Modulation
from trackers.errors import TrackerError

SMALLEST = 1e-3  # smallest side in pixels, since the logarithm of 0 is infinite


def refine(
    head: BoxRegressor,
    features: Sequence[Tensor],
    modulation: Modulation,
    boxes: Tensor,
    steps: int,
    step_length: float,
    space: str,
    embedding: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Refines boxes by gradient ascent on their scores in evaluation mode.

    Args:
        head: box regressor. Its batch norms use running statistics, whatever its mode.
        features, modulation, embedding: see `BoxRegressor.scores`.
        boxes: xywh in pixels of the crop, (N, K, 4).
        steps: number of steps.
        step_length: factor of the gradient.
        space: coordinates of the steps. "relative": centre over the size of the frame's first box, and logarithm of
            the size (SuperDiMP, PrDiMP). "default": xywh in units of the box's own size (DiMP).

    Returns:
        Boxes (N, K, 4), and their scores before the last step (N, K).

    Raises:
        TrackerError: the space is not known.
    """
    if space not in ("relative", "default"):
        raise TrackerError(f"tracker.refinement.space={space} is not known; choose relative or default")
    with no_autocast(boxes):
        gradients = ScoreGradients(head, features, modulation, embedding)
        boxes = boxes.to(gradients.dtype)
        scores = boxes.new_zeros(boxes.shape[:2])
        if space == "default":
            for _ in range(steps):
                scores, low, high = gradients(boxes)
                boxes = boxes + step_length * torch.cat([low + high, high], -1) * boxes[..., 2:].repeat(1, 1, 2)
            return boxes, scores
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:].clamp_min(SMALLEST)], -1)
        sizes = boxes[:, :1, 2:]
        relative = to_relative(boxes, sizes)
        for _ in range(steps):
            scores, low, high = gradients(boxes)
            gradient = torch.cat([(low + high) * sizes, (high - low) * boxes[..., 2:] / 2], -1)
            relative = relative + step_length * gradient
            boxes = from_relative(relative, sizes)
        return boxes, scores


class ScoreGradients:
    """Function from boxes to their scores and the scores' derivatives, for given features and modulation.

    Args:
        head, features, modulation, embedding: see `refine`.
    """

    def __init__(
        self, head: BoxRegressor, features: Sequence[Tensor], modulation: Modulation, embedding: Tensor | None = None
    ):
        maps = head.add_correlation(features, modulation, embedding)
        layers = head.hidden_layers()
        gains = head.iou_predictor.weight.detach()[0].split([layer.linear.out_features for layer in layers])
        self.bias = head.iou_predictor.bias.detach()
        self.dtype = maps[0].dtype
        self.parts = [
            _LevelScores.from_layer(layer, gain, m.detach(), vector.detach(), level.pool, 1 / level.stride)
            for layer, gain, m, vector, level in zip(layers, gains, maps, modulation.vectors, head.levels, strict=True)
        ]

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns scores (N, K) of boxes (N, K, 4), xywh, and derivatives by (x1, y1) and by (x2, y2), (N, K, 2)."""
        corners = xywh_to_xyxy(boxes)
        parts = [part(corners) for part in self.parts]
        scores, low, high = (torch.stack(values).sum(0) for values in zip(*parts, strict=True))
        return scores + self.bias, low, high


@dataclass
class _LevelScores:
    """Contribution of one level to the scores.

    Attributes:
        cells: the map as a matrix for each frame, (N, H, C * W).
        shape: (H, W) of the map.
        vector: modulation, (N, 1, C, 1, 1).
        weight: weight of the hidden layer, (F, C * pool * pool).
        scale, shift: batch norm and bias of the hidden layer, (F,).
        gain: weight of the score's layer, (F,).
        pool: bins along each side of a box.
        cells_per_pixel: scale of the map.
    """

    cells: Tensor
    shape: tuple[int, int]
    vector: Tensor
    weight: Tensor
    scale: Tensor
    shift: Tensor
    gain: Tensor
    pool: int
    cells_per_pixel: float

    @classmethod
    def from_layer(
        cls, layer: Hidden, gain: Tensor, m: Tensor, vector: Tensor, pool: int, cells_per_pixel: float
    ) -> "_LevelScores":
        """Returns the contribution of one level.

        The batch norm scales outputs and the modulation scales inputs, so that the large weight matrix is not copied.
        """
        bn, linear = layer.bn, layer.linear
        assert bn.running_mean is not None
        assert bn.running_var is not None
        scale = bn.weight.detach() * (bn.running_var + bn.eps).rsqrt()
        shift = (linear.bias.detach() - bn.running_mean) * scale + bn.bias.detach()
        cells = m.transpose(1, 2).flatten(2).contiguous()
        vector, shape = vector[:, None, :, None, None], (m.shape[2], m.shape[3])
        return cls(cells, shape, vector, linear.weight.detach(), scale, shift, gain, pool, cells_per_pixel)

    def __call__(self, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns scores (N, K) of corners (N, K, 4), and derivatives by (x1, y1) and by (x2, y2), (N, K, 2)."""
        (n, k), (height, width), pool = corners.shape[:2], self.shape, self.pool
        low, high = (corners * self.cells_per_pixel).chunk(2, -1)
        both = bin_weights(low, high, pool, max(height, width))  # (N, K, 2, pool, cells): columns, then rows
        columns = both[:, :, 0, :, :width].flatten(0, 1)
        rows = both[:, :, 1, :, :height].flatten(1, 2)

        over_rows = (rows @ self.cells).view(n * k, -1, width)  # (N * K, pool * C, W)
        pooled = (over_rows @ columns.transpose(1, 2)).view(n, k, pool, -1, pool).transpose(2, 3)
        hidden = (pooled * self.vector).flatten(2) @ self.weight.T * self.scale + self.shift
        scores = hidden.clamp_min(0) @ self.gain

        # Backward pass from the scores to the matrices `columns` and `rows`.
        by_pooled = ((hidden > 0) * (self.gain * self.scale)) @ self.weight
        by_pooled = by_pooled.view(n, k, -1, pool, pool) * self.vector
        by_pooled = by_pooled.transpose(2, 3).reshape(n * k, -1, pool)
        by_columns = (by_pooled.transpose(1, 2) @ over_rows).view(n, k, pool, width)
        by_rows = (by_pooled @ columns).view(n, k * pool, -1) @ self.cells.transpose(1, 2)
        by_rows = by_rows.view(n, k, pool, height)

        gradients = []
        for by_edge in bin_weight_gradients(low, high, both):
            x = (by_edge[:, :, 0, :, :width] * by_columns).sum((-2, -1))
            y = (by_edge[:, :, 1, :, :height] * by_rows).sum((-2, -1))
            gradients.append(torch.stack([x, y], -1) * self.cells_per_pixel)
        by_low, by_high = gradients
        return scores, by_low, by_high


def bin_weight_gradients(low: Tensor, high: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the derivatives of `bin_weights` by `low` and by `high`, (..., bins, cells); zero for empty intervals.

    Args:
        low, high: ends of the intervals (...), in cells.
        weights: result of `bin_weights` for these intervals, (..., bins, cells).
    """
    bins, cells = weights.shape[-2:]
    share = torch.arange(bins + 1, device=low.device, dtype=low.dtype)[:, None] / bins
    length = (high - low)[..., None, None]
    edges = low[..., None, None] + length * share
    hat = (1 - (edges - torch.arange(cells, device=low.device, dtype=low.dtype)).abs()).clamp_min(0)
    # Derivatives of the antiderivative at each edge: by the upper and by the lower end.
    with_high = hat * share
    with_low = hat - with_high
    filled = length > 0
    factor = torch.where(filled, bins / torch.where(filled, length, 1), 0)
    by_low = (with_low[..., 1:, :] - with_low[..., :-1, :] + weights / bins) * factor
    by_high = (with_high[..., 1:, :] - with_high[..., :-1, :] - weights / bins) * factor
    return by_low, by_high
