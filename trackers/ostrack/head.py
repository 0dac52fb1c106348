"""OSTrack's CENTER head: a score, an offset and a size for every cell of the search grid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trackers.layers.towers import Towers

OUTPUTS = {"ctr": 1, "offset": 2, "size": 2}  # name in official checkpoints: output channels


class CenterHead(Towers):
    """Three towers.

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
        """Features (B, C, F, F) to maps.

        Returns:
            score_map (B, 1, F, F) and size_map (B, 2, F, F; w, h in units of the crop's side), both clamped to
            [1e-4, 1 - 1e-4]; offset_map (B, 2, F, F; x, y in cells), unbounded.
        """
        ctr, offset, size = self.maps(features)
        eps = 1e-4  # in half precision 1 - 1e-4 is 1, and its logarithm in the loss infinite: maps are single precision
        return {
            "score_map": ctr.sigmoid().clamp(eps, 1 - eps),
            "size_map": size.sigmoid().clamp(eps, 1 - eps),
            "offset_map": offset,
        }


def cell_boxes(maps: dict[str, Tensor]) -> Tensor:
    """The box that every cell proposes: maps of (B, ., F, F) to cxcywh in units of the crop's side, (B, F * F, 4)."""
    cells = maps["offset_map"].shape[-1]
    ticks = torch.arange(cells, device=maps["offset_map"].device, dtype=maps["offset_map"].dtype)
    corner = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"))
    centre = (corner + maps["offset_map"]) / cells
    return torch.cat([centre, maps["size_map"]], 1).flatten(2).transpose(1, 2)


def best_box(maps: dict[str, Tensor], response: Tensor) -> tuple[Tensor, Tensor]:
    """The box at the highest response: ((B, 4) cxcywh, (B,) response). `response` is (B, 1, F, F)."""
    value, cell = response.flatten(1).max(1)
    return cell_boxes(maps).gather(1, cell[:, None, None].expand(-1, 1, 4))[:, 0], value
