"""CENTER head of OSTrack: predicts a score, an offset and a size for every cell of the search region."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trackers.layers.towers import Towers

OUTPUTS = {"ctr": 1, "offset": 2, "size": 2}  # output channels by tower, named as in official checkpoints


class CenterHead(Towers):
    """Three convolution towers: score, offset and size.

    Args:
        width: channels of the features.
        channels: channels of the towers' layers.
    """

    def __init__(self, width: int, channels: Sequence[int]):
        super().__init__(width, channels, OUTPUTS)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Returns the maps of features (B, C, F, F).

        Returns:
            "score_map" (B, 1, F, F) and "size_map" (B, 2, F, F; w, h in units of the crop's side), both clamped to
            [1e-4, 1 - 1e-4]; "offset_map" (B, 2, F, F; x, y in cells), unbounded.
        """
        ctr, offset, size = self.maps(features)
        eps = 1e-4  # in half precision 1 - 1e-4 would be 1 and the focal loss infinite, so maps are in single precision
        return {
            "score_map": ctr.sigmoid().clamp(eps, 1 - eps),
            "size_map": size.sigmoid().clamp(eps, 1 - eps),
            "offset_map": offset,
        }


def cell_boxes(maps: dict[str, Tensor]) -> Tensor:
    """Returns the box that each cell proposes, (B, F * F, 4), cxcywh in units of the crop's side."""
    cells = maps["offset_map"].shape[-1]
    ticks = torch.arange(cells, device=maps["offset_map"].device, dtype=maps["offset_map"].dtype)
    corner = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"))
    centre = (corner + maps["offset_map"]) / cells
    return torch.cat([centre, maps["size_map"]], 1).flatten(2).transpose(1, 2)


def best_box(maps: dict[str, Tensor], response: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the boxes at the highest response.

    Args:
        maps: output of `CenterHead`.
        response: (B, 1, F, F).

    Returns:
        Boxes (B, 4), cxcywh in units of the crop's side, and the highest responses (B,).
    """
    value, cell = response.flatten(1).max(1)
    return cell_boxes(maps).gather(1, cell[:, None, None].expand(-1, 1, 4))[:, 0], value
