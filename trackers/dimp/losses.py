"""Losses of classifier and box head. All are computed in the type they are given: hand over float32 at least."""

import math

import torch
from torch import Tensor


def lb_hinge(scores: Tensor, labels: Tensor, threshold: float = 0.05) -> Tensor:
    """Squared errors, where in the background only scores above zero are errors (DiMP).

    Args:
        scores, labels: same shape.
        threshold: labels below it are background.

    Returns:
        The mean over all elements.
    """
    background = labels < threshold
    errors = torch.where(background, scores.clamp_min(0), scores - labels)
    return errors.square().mean()


def kl_regression(scores: Tensor, proposal_density: Tensor, gt_density: Tensor) -> Tensor:
    """Divergence of what scores say about boxes from what is true, by importance sampling (PrDiMP).

    Args:
        scores: logarithms of densities, up to a constant, of M boxes (..., M).
        proposal_density: with which these were drawn, (..., M).
        gt_density: the true one, (..., M).

    Returns:
        The mean over all but the boxes, up to the entropy of the true density.
    """
    normaliser = (scores - proposal_density.log()).logsumexp(-1) - math.log(scores.shape[-1])
    return (normaliser - (scores * (gt_density / proposal_density)).mean(-1)).mean()


def kl_grid(scores: Tensor, density: Tensor) -> Tensor:
    """Cross entropy of score maps and densities, both (..., F, F); the mean over all maps (PrDiMP)."""
    scores, density = scores.flatten(-2), density.flatten(-2)
    return (scores.logsumexp(-1) - (scores * density).sum(-1)).mean()
