"""Heads of STARK: the corner head, whose expected corners are the box, and the class head, which gives a score."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.layers.towers import Towers


class CornerHead(Towers):
    """Two convolution towers that predict the top left and the bottom right corner of the box.

    Args:
        width: channels of the features.
        channels: channels of the towers' layers.
        offset: position of a corner in its cell, in cells: 0 as in the original, 0.5 for the centre.
    """

    def __init__(self, width: int, channels: Sequence[int], offset: float = 0.0):
        super().__init__(width, channels, {"tl": 1, "br": 1})
        self.offset = offset

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes and corner maps of features (B, C, F, F).

        Returns:
            Boxes (B, 4), xyxy in units of the crop's side, and corner maps (B, 2, F * F): the log-probability of each
            cell to contain the top left and the bottom right corner.
        """
        logits = torch.cat(self.maps(features), 1).flatten(2).log_softmax(-1)
        return self.expected_corners(logits), logits

    def expected_corners(self, maps: Tensor) -> Tensor:
        """Returns the expected boxes (B, 4) of corner maps (B, 2, F * F), xyxy in units of the crop's side."""
        cells = math.isqrt(maps.shape[2])
        ticks = (torch.arange(cells, device=maps.device, dtype=maps.dtype) + self.offset) / cells
        probability = maps.exp().unflatten(-1, (cells, cells))
        x, y = probability.sum(2) @ ticks, probability.sum(3) @ ticks
        return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


class ClassHead(nn.Module):
    """Three linear layers that predict from the query's token whether the search region shows the target.

    Args:
        width: channels of the token.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)])

    def forward(self, token: Tensor) -> Tensor:
        """Returns the logits (B,) of tokens (B, C)."""
        first, second, last = self.layers
        return last(second(first(token).relu()).relu())[:, 0]

    def groups(self) -> list[Group]:
        """Returns the groups of the hidden units. The layers that read the units carry the gates."""
        groups = []
        for i in range(len(self.layers) - 1):
            slices = (
                *(Slice(f"layers.{i}.{p}", 0) for p in ("weight", "bias")),
                Slice(f"layers.{i + 1}.weight", 1, gated=True),
            )
            groups.append(Group(f"layers.{i}", "class", self.get_parameter(slices[0].path).shape[0], slices))
        return groups
