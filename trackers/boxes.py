"""Conversions between box formats, and overlaps of boxes.

The last dim of a tensor of boxes has four entries: `xywh` is (left, top, width, height), `xyxy` is (left, top, right,
bottom), and `cxcywh` is (centre x, centre y, width, height).
"""

import torch
from torch import Tensor


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from xywh to xyxy."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from cxcywh to xyxy."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from xyxy to cxcywh."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns generalised IoU (Rezatofighi et al., 2019) and IoU of paired boxes.

    Args:
        a, b: xyxy, (..., 4). A box without area has IoU 0.

    Returns:
        GIoU in [-1, 1] and IoU in [0, 1], each (...).
    """
    area_a = (a[..., 2:] - a[..., :2]).clamp_min(0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1)
    intersection = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    union = area_a + area_b - intersection
    tiny = torch.finfo(a.dtype).tiny
    iou = intersection / union.clamp_min(tiny)
    return iou - (hull - union) / hull.clamp_min(tiny), iou
