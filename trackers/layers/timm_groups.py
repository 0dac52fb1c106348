"""Pruning groups of a CNN of timm: they are found in a run of it, as no CNN of timm declares any."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pruning import find_groups
from pruning.groups import Group, Slice
from trackers.layers.timm_layout import TRIAL

READERS = "readers"


@dataclass(frozen=True)
class TimmGroups:
    """Groups of a CNN that returns several maps.

    Attributes:
        groups: the groups, without the slices of what reads the maps.
        streams: for each map the groups of its channels by name, with the slices of a convolution that reads the map.
            Channels that cannot be cut are in no group.
    """

    groups: tuple[Group, ...]
    streams: tuple[dict[str, Slice], ...]


class _ReadMaps(nn.Module):
    """A CNN and a convolution behind each of its maps, which stands for the heads of a tracker.

    Outputs of a network cannot be cut, and without a reader no gate of a map's channels could be placed.
    """

    def __init__(self, body: nn.Module, widths: Sequence[int]):
        super().__init__()
        self.body = body
        self.add_module(READERS, nn.ModuleList(nn.Conv2d(width, 2, 1, bias=False) for width in widths))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Returns what the convolutions make of the maps of pictures (B, 3, H, W)."""
        readers = self.get_submodule(READERS)
        return [reader(m) for reader, m in zip(readers.children(), self.body(pictures), strict=True)]


def find_timm_groups(body: nn.Module) -> TimmGroups:
    """Returns the groups of a CNN in its present size.

    They are found on the meta device, so they depend on shapes alone, and are the same before and after a training.

    Args:
        body: network that returns a list of maps (B, C, H, W). It is the module "body" in the names of the groups.
    """
    body = copy.deepcopy(body).to("meta").eval()
    pictures = torch.empty(1, 3, *TRIAL, device="meta")
    with torch.device("meta"):
        network = _ReadMaps(body, [m.shape[1] for m in body(pictures)]).eval()
    groups: list[Group] = []
    streams: list[dict[str, Slice]] = [{} for _ in network.get_submodule(READERS).children()]
    for group in find_groups(network, lambda _: {"pictures": pictures}).groups:
        reads = {s: int(s.path.split(".")[1]) for s in group.slices if s.path.startswith(f"{READERS}.")}
        for s, number in reads.items():
            streams[number][group.name] = s
        groups.append(replace(group, slices=tuple(s for s in group.slices if s not in reads)))
    return TimmGroups(tuple(groups), tuple(streams))
