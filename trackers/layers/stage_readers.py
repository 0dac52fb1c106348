"""Pruning groups of a backbone together with what reads its maps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pruning.groups import Group, Slice
from trackers.layers.backbone_choice import Backbone

ReaderSlices = Callable[[bool], Iterable[Slice]]


def groups_with_readers(backbone: Backbone, readers: Sequence[ReaderSlices]) -> list[Group]:
    """Returns the groups of the module `backbone` of a network, which also cut the network's heads.

    Args:
        backbone: the backbone.
        readers: for each of the backbone's last maps, finest first, a function that returns the slices of the heads
            that share the channels of the map, one entry per channel. Its argument says whether weights that read
            channels carry their gates; if not, those that produce them do.
    """
    groups = {group.name: group.with_prefix("backbone.") for group in backbone.groups()}
    for streams, slices in zip(backbone.streams[-len(readers) :], readers, strict=True):
        for name, read in streams.items():
            entries = {"offsets": read.offsets, "inner": read.inner, "table": read.table, "whole": read.whole}
            added = (replace(s, **entries) for s in slices(read.gated))
            groups[name] = replace(groups[name], slices=(*groups[name].slices, *added))
    return list(groups.values())
