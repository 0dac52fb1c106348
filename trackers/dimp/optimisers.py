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
    """Base class of `GaussNewton` and `Newton`: steepest descent with a step length from second derivatives.

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
        """Improves filters by steps of steepest descent.

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
        size, regularisation, factor = int(filter.shape[-1]), self._regularisation(), self.log_step_length.exp()
        terms = self._fixed_terms(features, boxes, size, weights)
        filters = [filter]
        scores = apply_filter(features, filter) if iterations else filter.new_empty(0)
        for _ in range(iterations):
            residuals, curvature = self._score_gradient(scores, terms)
            gradient = filter_gradient(features, residuals, size) + regularisation * filter
            score_change = apply_filter(features, gradient)
            square = gradient.square().sum((1, 2, 3))
            second_derivative = curvature(score_change) + (regularisation + self.alpha_eps) * square
            length = factor * square / second_derivative.clamp_min(1e-8)
            filter = filter - length[:, None, None, None] * gradient
            scores = scores - length[:, None, None] * score_change
            filters.append(filter)
        return filters

    def objective(self, filter: Tensor, features: Tensor, boxes: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the objective that the steps minimise, a mean over sequences; see `forward` for the arguments."""
        features, filter = at_least_single(features), at_least_single(filter)
        loss = self._loss(apply_filter(features, filter), self._fixed_terms(features, boxes, filter.shape[-1], weights))
        return (loss + self._regularisation() * filter.square().sum()) / len(filter)

    def _regularisation(self) -> Tensor:
        """Returns the weight of the filter's squared norm, a scalar."""
        return self.filter_reg[0].square().clamp_min(self.min_regularisation**2)

    @abstractmethod
    def _fixed_terms(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> Any:
        """Returns the tensors that do not depend on the filter's values, for filters of side `size`."""

    @abstractmethod
    def _loss(self, scores: Tensor, terms: Any) -> Tensor:
        """Returns the loss of scores (n, B, F, F), summed over sequences."""

    @abstractmethod
    def _score_gradient(self, scores: Tensor, terms: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Returns the gradient of the loss by the scores, and its curvature.

        The curvature is a function from a change of the scores (n, B, F, F) to the second derivative (B,) in this
        direction.
        """

    def _geometry(self, features: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, int, float]:
        """Returns boxes in the type of the features, the side of the score map, and a score's offset in its cell."""
        return boxes.to(features.dtype), score_cells(features.shape[-1], size), 0.5 * (size % 2)


class _LeastSquaresTerms(NamedTuple):
    """Maps (n, B, F, F): labels of the scores, slope of the activation below zero, and weights of squared errors."""

    label: Tensor
    mask: Tensor
    weight: Tensor


class GaussNewton(_Optimiser):
    """Least squares with learned labels, masks and weights of cells by their distance to the target (DiMP).

    In cells whose mask is 0, usually the background, scores below zero are no errors.

    Args:
        stride, sigma, step, regularisation, min_regularisation, alpha_eps: see `_Optimiser`.
        bins: number of entries of the learned tables.
        bin: distance between two entries, in cells. Larger distances use the last entry.
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
        gaussian = torch.exp(-distance.square() / (2 * sigma**2))
        self.label = nn.Parameter(gaussian - gaussian.min())
        self.mask = nn.Parameter(mask_factor * torch.tanh(2 - distance))  # before the sigmoid
        self.weight = nn.Parameter(torch.ones(bins))

    def _fixed_terms(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> _LeastSquaresTerms:
        boxes, cells, offset = self._geometry(features, boxes, size)
        dx, dy = centre_offsets(boxes, cells, self.stride, offset).square().unbind(-2)
        distance = (dy[..., :, None] + dx[..., None, :]).sqrt()
        label, mask, weight = look_up(torch.stack([self.label, self.mask, self.weight]), distance / self.bin)
        return _LeastSquaresTerms(label, mask.sigmoid(), _frame_weights(weights, features) * weight.square())

    def _loss(self, scores: Tensor, terms: _LeastSquaresTerms) -> Tensor:
        return (terms.weight * (_activation_slope(scores, terms.mask) * scores - terms.label).square()).sum()

    def _score_gradient(self, scores: Tensor, terms: _LeastSquaresTerms) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        slope = _activation_slope(scores, terms.mask)
        weighted = terms.weight * slope
        residuals = weighted * (slope * scores - terms.label)
        return residuals, lambda score_change: (weighted * slope * score_change.square()).sum((0, 2, 3))


class _CrossEntropyTerms(NamedTuple):
    """Densities of the target's position (n, B, F, F), and weights of frames (n or 1, B or 1, 1, 1)."""

    density: Tensor
    weight: Tensor | float


class Newton(_Optimiser):
    """Cross entropy of the scores' softmax with a density of the target's position (PrDiMP).

    The arguments are those of `_Optimiser`. As in the reference, the gradient belongs to half of the weighted squared
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

    def _fixed_terms(self, features: Tensor, boxes: Tensor, size: int, weights: Tensor | None) -> _CrossEntropyTerms:
        boxes, cells, offset = self._geometry(features, boxes, size)
        density = label_density(boxes, cells, self.stride, self.sigma, offset, normalise=False)
        # Every density sums to 1, even if the target lies mostly outside of the map. Labels of training losses differ.
        density = density / (density.sum((-2, -1), keepdim=True) + 1e-8)
        return _CrossEntropyTerms(density, _frame_weights(weights, features))

    def _loss(self, scores: Tensor, terms: _CrossEntropyTerms) -> Tensor:
        entropy = scores.logsumexp((-2, -1), keepdim=True) - (scores * terms.density).sum((-2, -1), keepdim=True)
        return (terms.weight * entropy).sum()

    def _score_gradient(self, scores: Tensor, terms: _CrossEntropyTerms) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        probability = scores.flatten(2).softmax(-1).view_as(scores)

        def curvature(score_change: Tensor) -> Tensor:
            mean = (probability * score_change).sum((-2, -1), keepdim=True)
            variance = (probability * score_change * (score_change - mean)).sum((-2, -1), keepdim=True)
            return (terms.weight * variance.clamp_min(0)).sum((0, 2, 3))

        return terms.weight * (probability - terms.density), curvature


def look_up(tables: Tensor, positions: Tensor) -> Tensor:
    """Returns the values (T, ...) of tables at some positions, by linear interpolation.

    Args:
        tables: (T, bins).
        positions: non-negative positions (...), counted in entries. Larger positions use the last entry.
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
