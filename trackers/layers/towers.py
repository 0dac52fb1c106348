"""Convolution towers of the box heads of OSTrack and STARK."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice


class Towers(nn.Module):
    """Parallel towers of 3x3 convolutions with batch norm and ReLU, and a final 1x1 convolution in each tower.

    Parameters have the names of official OSTrack and STARK checkpoints.

    Args:
        width: channels of the features.
        channels: channels of a tower's layers, e.g. (256, 128, 64, 32).
        outputs: output channels by tower.
    """

    def __init__(self, width: int, channels: Sequence[int], outputs: Mapping[str, int]):
        super().__init__()
        self.depth, self.towers = len(channels), tuple(outputs)
        for tower, last in outputs.items():
            for i, (before, after) in enumerate(zip([width, *channels[:-1]], channels, strict=True), start=1):
                layer = nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
                self.add_module(f"conv{i}_{tower}", layer)
            self.add_module(f"conv{self.depth + 1}_{tower}", nn.Conv2d(channels[-1], last, 1))

    def maps(self, features: Tensor) -> list[Tensor]:
        """Returns one map (B, outputs, F, F) per tower for features (B, C, F, F), in at least single precision."""
        maps = []
        for tower in self.towers:
            x = features
            for i in range(1, self.depth + 2):
                x = self.get_submodule(f"conv{i}_{tower}")(x)
            maps.append(x.to(torch.promote_types(x.dtype, torch.float32)))
        return maps

    def input_slices(self) -> tuple[Slice, ...]:
        """Returns the slices that read the channels of the features."""
        return tuple(Slice(f"conv1_{tower}.0.weight", 1) for tower in self.towers)

    def groups(self) -> list[Group]:
        """Returns one group for the output channels of each layer except the last layer of each tower."""
        return [self._layer_group(tower, i) for tower in self.towers for i in range(1, self.depth + 1)]

    def _layer_group(self, tower: str, i: int) -> Group:
        name = f"conv{i}_{tower}"
        reader = f"conv{i + 1}_{tower}" + (".0" if i < self.depth else "")
        slices = (
            *(Slice(f"{name}.0.{p}", 0) for p in ("weight", "bias")),
            *(Slice(f"{name}.1.{p}", 0, gated=True) for p in ("weight", "bias")),
            *(Slice(f"{name}.1.{p}", 0) for p in ("running_mean", "running_var")),
            Slice(f"{reader}.weight", 1),
        )
        return Group(name, "tower", self.get_parameter(f"{name}.0.weight").shape[0], slices)
