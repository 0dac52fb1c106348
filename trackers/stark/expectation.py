"""Weighting of corner maps by the last box while tracking, for small networks with uncertain corner maps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.boxes import cxcywh_to_xyxy
from trackers.errors import TrackerError


@dataclass(frozen=True)
class Expectation:
    """Multiplication of corner maps by Gaussians around the corners of the last box. The original has no weighting.

    The expected corner of an uncertain map lies between several candidates. Boxes from such corners grow from frame to
    frame. The Gaussians prevent this growth.

    Attributes:
        spread: sigma of the Gaussians, in mean sides of the last box.
    """

    spread: float

    def __post_init__(self) -> None:
        if self.spread <= 0:
            raise TrackerError(
                f"tracker.expectation.spread={self.spread} must be positive; try spread=0.5, or "
                "tracker.expectation=null to use the maps without weights, as the original does"
            )

    def __call__(self, maps: Tensor, last: Tensor, offset: float) -> Tensor:
        """Returns the weighted maps, log-probabilities (B, 2, F * F).

        Args:
            maps: log-probabilities of the top left and the bottom right corner, (B, 2, F * F).
            last: the last box, cxcywh in units of the crop's side, (B, 4).
            offset: position of a corner in its cell, in cells.
        """
        cells = round(maps.shape[2] ** 0.5)
        ticks = (torch.arange(cells, device=maps.device, dtype=maps.dtype) + offset) / cells
        corners = cxcywh_to_xyxy(last).view(-1, 2, 2)  # (B, corner, xy)
        sigma = self.spread * last[:, 2:].prod(1).sqrt().view(-1, 1, 1, 1)
        distance = (((ticks - corners[..., None]) / sigma) ** 2 / 2).unbind(2)
        return (maps - (distance[1][..., :, None] + distance[0][..., None, :]).flatten(2)).log_softmax(2)
