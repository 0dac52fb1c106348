"""Losses of classifier and box head, computed in the type of their arguments, which must be float32 or float64."""

import math

import torch
from torch import Tensor


def lb_hinge(scores: Tensor, labels: Tensor, threshold: float = 0.05) -> Tensor:
    """Returns the mean squared error of score maps. In the background, only scores above zero are errors (DiMP).

    Args:
        scores, labels: maps of the same shape.
        threshold: label below which a cell is background.
    """
    background = labels < threshold
    errors = torch.where(background, scores.clamp_min(0), scores - labels)
    return errors.square().mean()


def kl_regression(scores: Tensor, proposal_density: Tensor, gt_density: Tensor) -> Tensor:
    """Returns the KL divergence of predicted from true densities of boxes, by importance sampling (PrDiMP).

    The result is the mean over all dims but the last. The constant entropy of the true density is left out.

    Args:
        scores: log-densities of M boxes up to a constant, (..., M).
        proposal_density: sampling density of the boxes, (..., M).
        gt_density: true density of the boxes, (..., M).
    """
    normaliser = (scores - proposal_density.log()).logsumexp(-1) - math.log(scores.shape[-1])
    return (normaliser - (scores * (gt_density / proposal_density)).mean(-1)).mean()


def kl_grid(scores: Tensor, density: Tensor) -> Tensor:
    """Returns the mean cross entropy of score maps with densities, both (..., F, F) (PrDiMP)."""
    scores, density = scores.flatten(-2), density.flatten(-2)
    return (scores.logsumexp(-1) - (scores * density).sum(-1)).mean()
