"""Learning of a filter from frames with known boxes, by steepest descent with a step length from second derivatives.

Gradients with respect to the filter are written out: training differentiates through all iterations, and tracking
needs no autograd. Scores are linear in the filter. So each iteration adds the scores of its step to the scores, and
reads the features only twice.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trackers.dimp.filters import apply_filter, filter_gradient, score_cells
from trackers.dimp.labels import centre_offsets, label_density
from trackers.dimp.precision import at_least_single


class _Optimiser(nn.Module, ABC):
    """Base class of both optimisers.

    Args:
        stride: pixels per cell.
        sigma: standard deviation of the label, in cells.
        step: initial factor of the step length; it is learned.
        regularisation: initial square root of the weight of the filter's squared norm; it is learned.
        min_regularisation: lower bound of the regularisation.
        alpha_eps: further regularisation in the computation of the step length.
    """

    def __init__(
        self,
        stride: int,
        sigma: float,
        step: float,
        regularisation: float,
        min_regularisation: float,
        alpha_eps: float,
    ):
        super().__init__()
        self.stride, self.sigma = stride, sigma
        self.min_regularisation, self.alpha_eps = min_regularisation, alpha_eps
        self.log_step_length = nn.Parameter(torch.full((1,), math.log(step)))
        self.filter_reg = nn.Parameter(torch.full((1,), float(regularisation)))

    def forward(
        self, filter: Tensor, features: Tensor, boxes: Tensor, iterations: int, weights: Tensor | None = None
    ) -> list[Tensor]:
        """Improves filters by some steps.

        Args:
            filter: (B, D, k, k).
            features: (n, B, D, H, W).
            boxes: xywh in pixels, (n, B, 4).
            iterations: number of steps.
            weights: weights of the frames, (n, B); 1 / n each by default.

        Returns:
            The given filters and the filters after every step, in float32 at least.
        """
        features, filter = at_least_single(features), at_least_single(filter)
        size, strength, factor = filter.shape[-1], self._strength(), self.log_step_length.exp()
        task = self._task(features, boxes, size, weights)
        filters = [filter]
        scores = apply_filter(features, filter) if iterations else None
        for _ in range(iterations):
            residuals, curvature = self._slope(scores, task)
            gradient = filter_gradient(features, residuals, size) + strength * filter
            moved = apply_filter(features, gradient)
            square = gradient.square().sum((1, 2, 3))
            bend = curvature(moved) + (strength + self.alpha_eps) * square
            length = factor * square / bend.clamp_min(1e-8)
            filter = filter - length[:, None, None, None] * gradient
            scores = scores - length[:, None, None] * moved
            filters.append(filter)
        return filters

    def objective(self, filter: Tensor, features: Tensor, boxes: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the objective that the steps minimise, a mean over sequences; see `forward` for the arguments."""
        features, filter = at_least_single(features), at_least_single(filter)
        loss = self._loss(apply_filter(features, filter), self._task(features, boxes, filter.shape[-1], weights))
        return (loss + self._strength() * filter.square().sum()) / len(filter)

    def _strength(self) -> Tensor:
        return self.filter_reg[0].square().clamp_min(self.min_regularisation**2)

    @abstractmethod
    def _task(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> Any:
        """Returns the tensors that do not depend on the filter's values, for filters of side `size`."""

    @abstractmethod
    def _loss(self, scores: Tensor, task: Any) -> Tensor:
        """Returns the loss of scores (n, B, F, F), summed over sequences."""

    @abstractmethod
    def _slope(self, scores: Tensor, task: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Returns the loss's derivative by the scores, and a function from a change of scores to its curvature (B,)."""

    def _geometry(self, features: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, int, float]:
        """Returns boxes in the type of the features, the side of the score map, and a score's offset in its cell."""
        return boxes.to(features.dtype), score_cells(features.shape[-1], size), 0.5 * (size % 2)


class _Fit(NamedTuple):
    """Maps (n, B, F, F): labels of scores, slope of the activation below zero, and weight of squared errors."""

    label: Tensor
    mask: Tensor
    weight: Tensor


class GaussNewton(_Optimiser):
    """Least squares with learned labels, masks and weights of cells by their distance to the target (DiMP).

    Where the mask is 0, usually in the background, scores below zero are no errors.

    Args:
        stride, sigma, step, regularisation, min_regularisation, alpha_eps: see `_Optimiser`.
        bins: number of entries of the learned tables.
        bin: distance between two entries, in cells; beyond the last entry its value holds.
        mask_factor: initial range of the masks' logits.
    """

    def __init__(
        self,
        stride: int,
        sigma: float,
        bins: int = 100,
        bin: float = 0.1,
        step: float = 0.9,
        regularisation: float = 0.1,
        min_regularisation: float = 1e-3,
        mask_factor: float = 3.0,
        alpha_eps: float = 0.0,
    ):
        super().__init__(stride, sigma, step, regularisation, min_regularisation, alpha_eps)
        self.bin = bin
        distance = torch.arange(bins) * bin
        bell = torch.exp(-distance.square() / (2 * sigma**2))
        self.label = nn.Parameter(bell - bell.min())
        self.mask = nn.Parameter(mask_factor * torch.tanh(2 - distance))  # before the sigmoid
        self.weight = nn.Parameter(torch.ones(bins))

    def _task(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> _Fit:
        boxes, cells, offset = self._geometry(features, boxes, size)
        dx, dy = centre_offsets(boxes, cells, self.stride, offset).square().unbind(-2)
        distance = (dy[..., :, None] + dx[..., None, :]).sqrt()
        label, mask, weight = look_up(torch.stack([self.label, self.mask, self.weight]), distance / self.bin)
        return _Fit(label, mask.sigmoid(), _frame_weights(weights, features) * weight.square())

    def _loss(self, scores: Tensor, task: _Fit) -> Tensor:
        return (task.weight * (_activation_slope(scores, task.mask) * scores - task.label).square()).sum()

    def _slope(self, scores: Tensor, task: _Fit) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        slope = _activation_slope(scores, task.mask)
        weighted = task.weight * slope
        residuals = weighted * (slope * scores - task.label)
        return residuals, lambda moved: (weighted * slope * moved.square()).sum((0, 2, 3))


class _Match(NamedTuple):
    """Densities of the target's position (n, B, F, F), and weights of frames (n or 1, B or 1, 1, 1)."""

    density: Tensor
    weight: Tensor | float


class Newton(_Optimiser):
    """Cross entropy of the scores' softmax with a density of the target's position (PrDiMP).

    Its arguments are those of `_Optimiser`. As in the reference, the gradient belongs to half of the weighted squared
    norm of the filter, but the objective contains all of it.
    """

    def __init__(
        self,
        stride: int,
        sigma: float,
        step: float = 1.0,
        regularisation: float = 0.05,
        min_regularisation: float = 0.05,
        alpha_eps: float = 0.05,
    ):
        super().__init__(stride, sigma, step, regularisation, min_regularisation, alpha_eps)

    def _task(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> _Match:
        boxes, cells, offset = self._geometry(features, boxes, size)
        density = label_density(boxes, cells, self.stride, self.sigma, offset, normalise=False)
        # Unlike the label of training losses, a target that is mostly outside of the map counts in full.
        density = density / (density.sum((-2, -1), keepdim=True) + 1e-8)
        return _Match(density, _frame_weights(weights, features))

    def _loss(self, scores: Tensor, task: _Match) -> Tensor:
        entropy = scores.logsumexp((-2, -1), keepdim=True) - (scores * task.density).sum((-2, -1), keepdim=True)
        return (task.weight * entropy).sum()

    def _slope(self, scores: Tensor, task: _Match) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        belief = scores.flatten(2).softmax(-1).view_as(scores)

        def curvature(moved: Tensor) -> Tensor:
            mean = (belief * moved).sum((-2, -1), keepdim=True)
            variance = (belief * moved * (moved - mean)).sum((-2, -1), keepdim=True)
            return (task.weight * variance.clamp_min(0)).sum((0, 2, 3))

        return task.weight * (belief - task.density), curvature


def look_up(tables: Tensor, positions: Tensor) -> Tensor:
    """Interpolates tables linearly; returns values (T, ...).

    Args:
        tables: (T, bins).
        positions: positions in entries, not negative, (...); beyond the last entry its value holds.
    """
    last = tables.shape[1] - 1
    positions = positions.clamp_max(last)
    low = positions.long()
    return torch.lerp(tables[:, low], tables[:, (low + 1).clamp_max(last)], (positions - low).to(tables.dtype))


def _activation_slope(scores: Tensor, mask: Tensor) -> Tensor:
    """Returns the slope of the activation: 1 above zero, the mask below, their mean at zero."""
    return (1 + mask) / 2 + (1 - mask) / 2 * scores.sign()


def _frame_weights(weights: Tensor | None, features: Tensor) -> Tensor | float:
    return 1 / len(features) if weights is None else weights.to(features.dtype)[..., None, None]
