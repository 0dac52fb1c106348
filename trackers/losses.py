"""Loss functions that several trackers use."""

import torch
from torch import Tensor

from trackers.boxes import cxcywh_to_xyxy, giou


def gaussian_heatmap(boxes: Tensor, size: int) -> Tensor:
    """Returns CornerNet-style target maps with a 1 at each centre (OSTrack's `generate_heatmap`).

    The centre is rounded half to even. It may fall outside of the map, which then has no 1. The radius uses the
    reference's form of the quadratic formula, (b + sqrt(b^2 - 4ac)) / 2, in all three cases.

    Args:
        boxes: xywh in units of the crop's side, (B, 4).
        size: cells per side, F.

    Returns:
        Target maps (B, F, F), in [0, 1].
    """
    cells = boxes * size
    centre = (cells[:, :2] + cells[:, 2:] / 2).round()
    w, h = cells[:, 2], cells[:, 3]
    overlap = 0.7
    cases = (
        (1, h + w, w * h * (1 - overlap) / (1 + overlap)),
        (4, 2 * (h + w), (1 - overlap) * w * h),
        (4 * overlap, -2 * overlap * (h + w), (overlap - 1) * w * h),
    )
    radii = [(b + (b * b - 4 * a * c).clamp_min(0).sqrt()) / 2 for a, b, c in cases]
    radius = torch.stack(radii).amin(0).clamp_min(0).floor()[:, None, None]
    grid = torch.arange(size, device=boxes.device, dtype=boxes.dtype)
    dx = (grid[None, None, :] - centre[:, 0, None, None]).expand(-1, size, -1)
    dy = (grid[None, :, None] - centre[:, 1, None, None]).expand(-1, -1, size)
    sigma = (2 * radius + 1) / 6
    heat = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    return heat * ((dx.abs() <= radius) & (dy.abs() <= radius)) * (heat >= torch.finfo(heat.dtype).eps)


def near_target(boxes: Tensor, size: int) -> Tensor:
    """Returns the weight of each cell: a Gaussian around the target's centre, set to 0 where it is below 0.3.

    Args:
        boxes: xywh in units of the crop's side, (B, 4).
        size: cells per side, F.

    Returns:
        Weights (B, F, F). Sigma is 0.12 times the mean of the crop's and the target's side.
    """
    ticks = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) + 0.5) / size
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    dx, dy = ticks - centre[:, :1], ticks - centre[:, 1:]
    sigma = 0.12 * (1 + boxes[:, 2:].clamp_min(0).prod(1).sqrt()) / 2
    weight = torch.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / (2 * sigma[:, None, None] ** 2))
    return weight * (weight > 0.3)


def focal_loss(score: Tensor, target: Tensor) -> Tensor:
    """Returns CornerNet's penalty-reduced focal loss, divided by the number of cells whose target is exactly 1.

    Args:
        score: probabilities in (0, 1), any shape.
        target: in [0, 1], same shape.
    """
    positive = (target == 1).to(score.dtype)
    gain = torch.log(score) * (1 - score) ** 2 * positive
    loss = torch.log(1 - score) * score**2 * (1 - target) ** 4 * (1 - positive)
    return -(gain.sum() + loss.sum()) / positive.sum().clamp_min(1)


def corner_loss(maps: Tensor, corners: Tensor, offset: float) -> Tensor:
    """Returns the cross entropy of corner maps against Gaussians (sigma 0.7 cells) around the true corners.

    Args:
        maps: log-probabilities of the top left and bottom right corner, (B, 2, F * F).
        corners: xyxy in units of the crop's side, inside the crop, (B, 4).
        offset: position of a cell's point in the cell, in cells.
    """
    cells = round(maps.shape[2] ** 0.5)
    ticks = (torch.arange(cells, device=maps.device, dtype=maps.dtype) + offset) / cells
    points = corners.view(-1, 2, 2)
    near = torch.exp(-(((points[..., None] - ticks) * cells / 0.7) ** 2) / 2)  # (B, 2, xy, F)
    target = (near[:, :, 1, :, None] * near[:, :, 0, None, :]).flatten(2)
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -(target * maps).sum(-1).mean()


def similarity_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Returns the cross entropy of maps over cells against a Gaussian around each target's centre.

    Args:
        logits: (B, F * F).
        boxes: xywh in units of the crop's side, (B, 4).
    """
    target = near_target(boxes, round(logits.shape[1] ** 0.5)).flatten(1)
    target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
    return -(target * logits.log_softmax(1)).sum(1).mean()


def box_losses(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Returns GIoU and l1 losses of paired boxes.

    Args:
        predicted: cxcywh in units of the crop's side, (n, 4).
        target: xyxy in the same units, (n, 4).
        weight: weights of the mean over boxes, (n,); equal weights by default.

    Returns:
        Scalars: "giou" (1 - GIoU), "l1" (mean over the four xyxy coordinates), and "iou", which is only logged.
    """
    corners = cxcywh_to_xyxy(predicted)
    generalised, iou = giou(corners, target)
    weight = torch.ones_like(iou) if weight is None else weight
    weight = weight / weight.sum().clamp_min(1e-6)
    distance = (corners - target).abs().mean(-1)
    return {
        "giou": ((1 - generalised) * weight).sum(),
        "l1": (distance * weight).sum(),
        "iou": (iou.detach() * weight).sum(),
    }
