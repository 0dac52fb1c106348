"""OSTrack's CENTER head: a score, an offset and a size for every cell of the search grid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice

TOWERS = {"ctr": 1, "offset": 2, "size": 2}  # name in official checkpoints: output channels


class CenterHead(nn.Module):
    """Three towers of 3x3 convolutions, batch norm and ReLU, each ended by a 1x1 convolution.

    Args:
        width: channels of the features.
        channels: channels of the tower's layers, e.g. (256, 128, 64, 32).
    """

    def __init__(self, width: int, channels: Sequence[int]):
        super().__init__()
        self.depth = len(channels)
        for tower, outputs in TOWERS.items():
            for i, (before, after) in enumerate(zip([width, *channels[:-1]], channels, strict=True), start=1):
                layer = nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
                self.add_module(f"conv{i}_{tower}", layer)
            self.add_module(f"conv{self.depth + 1}_{tower}", nn.Conv2d(channels[-1], outputs, 1))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, C, F, F) to maps.

        Returns:
            score_map (B, 1, F, F) and size_map (B, 2, F, F; w, h in units of the crop's side), both clamped to
            [1e-4, 1 - 1e-4]; offset_map (B, 2, F, F; x, y in cells), unbounded.
        """
        ctr, offset, size = (self._tower(name, features) for name in TOWERS)
        eps = 1e-4
        return {
            "score_map": ctr.sigmoid().clamp(eps, 1 - eps),
            "size_map": size.sigmoid().clamp(eps, 1 - eps),
            "offset_map": offset,
        }

    def _tower(self, name: str, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 2):
            x = self.get_submodule(f"conv{i}_{name}")(x)
        # In half precision 1 - 1e-4 is 1, and its logarithm in the loss infinite.
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def input_slices(self) -> tuple[Slice, ...]:
        """Where the head reads the channels of the features."""
        return tuple(Slice(f"conv1_{tower}.0.weight", 1) for tower in TOWERS)

    def groups(self) -> list[Group]:
        """The output channels of every layer of every tower, the last ones excepted."""
        return [self._layer_group(tower, i) for tower in TOWERS for i in range(1, self.depth + 1)]

    def _layer_group(self, tower: str, i: int) -> Group:
        layer, name = self.get_submodule(f"conv{i}_{tower}"), f"conv{i}_{tower}"
        reader = f"conv{i + 1}_{tower}" + (".0" if i < self.depth else "")
        slices = (
            *(Slice(f"{name}.0.{p}", 0) for p in ("weight", "bias")),
            *(Slice(f"{name}.1.{p}", 0, gated=True) for p in ("weight", "bias")),
            *(Slice(f"{name}.1.{p}", 0) for p in ("running_mean", "running_var")),
            Slice(f"{reader}.weight", 1),
        )
        return Group(name, "tower", layer[0].out_channels, slices)


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
