"""Boxes near a target for training: samples of a mixture with densities, or jittered boxes with overlaps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trackers.boxes import giou, xywh_to_xyxy

Sigma = tuple[float, float]  # standard deviations of centre and of size, in relative coordinates
TRIES = 20  # draws of a jittered box
SHRINK = 0.9  # factor of the jitter after each draw that overlaps too little


def to_relative(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Converts boxes (..., 4), xywh, to (cx / W, cy / H, log w, log h) for reference sizes (W, H), (..., 2)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:] / 2) / sizes, boxes[..., 2:].log()], -1)


def from_relative(relative: Tensor, sizes: Tensor) -> Tensor:
    """Converts relative coordinates (..., 4) to boxes (..., 4), xywh; the inverse of `to_relative`."""
    extent = relative[..., 2:].exp()
    return torch.cat([relative[..., :2] * sizes - extent / 2, extent], -1)


def sample_proposals(boxes: Tensor, count: int, sigmas: Sequence[Sigma]) -> tuple[Tensor, Tensor, Tensor]:
    """Draws boxes from an equal mixture of normal distributions around each box (PrDiMP); see `place_proposals`."""
    shape = (*boxes.shape[:-1], count)
    picks = torch.randint(len(sigmas), shape, device=boxes.device)
    noise = torch.randn(*shape, 4, device=boxes.device, dtype=boxes.dtype)
    return place_proposals(boxes, picks, noise, sigmas)


def place_proposals(
    boxes: Tensor, picks: Tensor, noise: Tensor, sigmas: Sequence[Sigma]
) -> tuple[Tensor, Tensor, Tensor]:
    """Converts noise to boxes, in coordinates relative to each box and its size.

    Args:
        boxes: boxes with an area, xywh in pixels, (..., 4).
        picks: component of each sample, (..., M).
        noise: standard normal, (..., M, 4).
        sigmas: standard deviations of each component. The first component is also the density of the true box.

    Returns:
        Samples (..., M, 4), xywh; their sampling density and their true density, (..., M) each, in relative
        coordinates.
    """
    spread = noise.new_tensor([[c, c, s, s] for c, s in [*sigmas, sigmas[0]]])
    offsets = noise * spread[picks]
    sizes = boxes[..., None, 2:]
    proposals = from_relative(to_relative(boxes[..., None, :], sizes) + offsets, sizes)
    exponents = -(offsets[..., None, :] / spread).square().sum(-1) / 2
    densities = exponents.exp() / ((2 * math.pi) ** 2 * spread.prod(-1))
    return proposals, densities[..., :-1].mean(-1), densities[..., -1]


def jittered_proposals(boxes: Tensor, count: int, sigmas: Sequence[float], min_iou: float) -> tuple[Tensor, Tensor]:
    """Draws boxes with jittered centre and size around each box (DiMP).

    A proposal that overlaps too little is drawn again from a narrower distribution. If all `TRIES` draws overlap too
    little, the proposal is the box itself.

    Args:
        boxes: boxes with an area, xywh in pixels, (..., 4).
        count: number of proposals per box.
        sigmas: standard deviations in mean sides; each proposal picks one.
        min_iou: smallest overlap of a proposal with its box.

    Returns:
        Proposals (..., count, 4), xywh, and their overlaps (IoU) with the box (..., count).
    """
    device, dtype = boxes.device, boxes.dtype
    boxes = boxes[..., None, :].expand(*boxes.shape[:-1], count, 4)
    picks = torch.randint(len(sigmas), boxes.shape[:-1], device=device)
    sigma = boxes.new_tensor(sigmas)[picks] * boxes[..., 2:].prod(-1).sqrt()
    proposals, found = boxes, torch.zeros_like(sigma, dtype=torch.bool)
    for _ in range(TRIES):
        noise = torch.randn(boxes.shape, device=device, dtype=dtype) * sigma[..., None]
        extent = boxes[..., 2:] + noise[..., 2:]
        tried = torch.cat([boxes[..., :2] + boxes[..., 2:] / 2 + noise[..., :2] - extent / 2, extent], -1)
        fits = ~found & (overlaps(tried, boxes) >= min_iou)
        proposals, found = torch.where(fits[..., None], tried, proposals), found | fits
        if found.all():
            break
        sigma = sigma * SHRINK
    return proposals, overlaps(proposals, boxes)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU (...) of paired boxes (..., 4), xywh."""
    return giou(xywh_to_xyxy(a), xywh_to_xyxy(b))[1]
