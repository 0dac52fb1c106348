"""Where corners are, given where they were: for networks that are not sure of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.boxes import cxcywh_to_xyxy


@dataclass(frozen=True)
class Expectation:
    """Corner maps times Gaussians around the corners of the last box. The original takes the maps as they are.

    Of a map that is not sure the expected corner lies somewhere between all that look like it, and two of them make a
    box that grows from frame to frame.

    Attributes:
        spread: sigma of the Gaussians, in mean sides of the last box.
    """

    spread: float

    def __post_init__(self) -> None:
        if self.spread <= 0:
            raise ValueError(
                f"expectation.spread={self.spread} must be positive; try spread=0.5, or expectation=null for the "
                "original's"
            )

    def __call__(self, maps: Tensor, last: Tensor, offset: float) -> Tensor:
        """Weighed maps.

        Args:
            maps: logarithms of probabilities of the top left and the bottom right corner, (B, 2, F * F).
            last: the last box, cxcywh in units of the crop's side, (B, 4).
            offset: where in its cell a corner lies, in cells.

        Returns:
            Logarithms of probabilities, (B, 2, F * F).
        """
        cells = round(maps.shape[2] ** 0.5)
        ticks = (torch.arange(cells, device=maps.device, dtype=maps.dtype) + offset) / cells
        corners = cxcywh_to_xyxy(last).view(-1, 2, 2)  # (B, corner, xy)
        sigma = self.spread * last[:, 2:].prod(1).sqrt().view(-1, 1, 1, 1)
        distance = (((ticks - corners[..., None]) / sigma) ** 2 / 2).unbind(2)
        return (maps - (distance[1][..., :, None] + distance[0][..., None, :]).flatten(2)).log_softmax(2)
