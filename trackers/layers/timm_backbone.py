"""Convolutional backbones of timm by name: the maps at strides 8 and 16, without what lies behind the last one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.contents import load_strictly
from trackers.errors import TrackerError
from trackers.layers.package_names import package_names
from trackers.layers.pretrained import timm_weights
from trackers.layers.timm_groups import TimmGroups, find_timm_groups
from trackers.layers.timm_layout import timm_layout
from trackers.pixels import IMAGENET_MEAN, IMAGENET_STD


class TimmBackbone(nn.Module):
    """CNN of timm that returns its features at one or several of the strides 4, 8 and 16.

    Like every network of this project it takes pictures that ImageNet's mean and standard deviation normalise. It
    converts them to the normalisation with which its weights were trained.

    Args:
        name: network of timm, e.g. "mobilenetv2_100" or, for one of several trainings, "mobilenetv2_100.ra_in1k".
        stride: pixels per cell of the last map, 8 or 16. Layers behind that map are not built.
        maps: number of maps that are returned: the last one, and those in front of it.
        mean, std: normalisation of the weights, for each colour from 0 to 1; None for the one that timm names.

    Attributes:
        body: timm's network.
        stride: pixels per cell of the last map.
        strides, widths: pixels per cell, and channels before a cut, of the maps, finest first.

    Raises:
        TrackerError: timm has no such network, or the network lacks a map.
    """

    def __init__(
        self,
        name: str,
        stride: int = 16,
        maps: int = 1,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        self.name, self.stride, self.layout = name, stride, timm_layout(name, stride)
        if not 0 < maps <= len(self.layout.strides):
            strides = [*self.layout.strides]
            raise TrackerError(f"tracker.backbone={name} has maps of the strides {strides}, and not {maps} of them")
        self.strides, self.widths = self.layout.strides[-maps:], self.layout.widths[-maps:]
        self.body: nn.Module = timm.create_model(name, features_only=True, out_indices=self.layout.indices[-maps:])
        for path in self.layout.unused:
            self.body.set_submodule(path, nn.Identity())
        modules: Iterator[Any] = self.body.modules()
        for module in modules:  # a cut may leave an activation that must not overwrite its input
            if getattr(module, "inplace", False) is True:
                module.inplace = False
        about: Any = timm.get_pretrained_cfg(name)
        self._found: tuple[tuple[torch.Size, ...], TimmGroups] | None = None  # groups, with the shapes they are of
        self.mean, self.std = tuple(mean or about.mean), tuple(std or about.std)

    @property
    def width(self) -> int:
        """Channels of the last map before a cut."""
        return self.widths[-1]

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns the last map (B, C, H / stride, W / stride) of pictures (B, 3, H, W)."""
        return self.stage_maps(pictures)[-1]

    def stage_maps(self, pictures: Tensor) -> list[Tensor]:
        """Returns the maps, finest first, for pictures (B, 3, H, W)."""
        if (self.mean, self.std) != (IMAGENET_MEAN, IMAGENET_STD):
            mean, std = (
                torch.tensor(values, dtype=pictures.dtype, device=pictures.device).view(3, 1, 1)
                for values in self._difference()
            )
            pictures = (pictures - mean) / std
        return list(self.body(pictures))

    def _difference(self) -> tuple[list[float], list[float]]:
        """Returns the mean and standard deviation that convert ImageNet's normalisation to that of the weights."""
        given = list(zip(IMAGENET_MEAN, IMAGENET_STD, self.mean, self.std, strict=True))
        return [(m - m0) / s0 for m0, s0, m, _ in given], [s / s0 for _, s0, _, s in given]

    def groups(self) -> list[Group]:
        """Returns the groups of the network in its present size, without what reads its maps.

        They are found; see `find_timm_groups`.
        """
        return list(self._find().groups)

    @property
    def streams(self) -> list[dict[str, Slice]]:
        """For each map the groups of its channels by name, with the slices of a convolution that reads the map."""
        return [dict(streams) for streams in self._find().streams]

    def _find(self) -> TimmGroups:
        shapes = tuple(p.shape for p in self.body.parameters())
        if self._found is None or self._found[0] != shapes:
            self._found = (shapes, find_timm_groups(self.body))
        return self._found[1]

    def stage_modules(self, count: int) -> tuple[str, ...]:
        """Returns the names of the modules up to the first `count` features from stride 4 on, returned or not."""
        sources = {f"body.{path}".rstrip(".") for stage in self.layout.sources[:count] for path in stage}
        return tuple(sorted(sources))

    def pretrained(self) -> Mapping[str, Tensor]:
        """Returns the weights of timm's training; see `timm_weights`."""
        return timm_weights(self.name)

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads the weights of the complete network; those of layers that are not built are skipped.

        Args:
            weights: state dict with timm's names, or with those of the packages in `package_names`. The classifier may
                be missing.
            source: file or library, for error messages.

        Raises:
            CheckpointError: the weights belong to another network.
        """
        with torch.device("meta"):
            complete = timm.create_model(self.name).state_dict()
        weights = package_names(weights, complete)
        # In timm's wrapper of features, a name may have another module in front, and underscores in the place of dots.
        theirs = {_plain(name): name for name in complete}
        ours = {name: name for name in weights if name not in complete}  # for the message
        for name in self.body.state_dict():
            found = theirs.get(_plain(name)) or theirs.get(_plain(name.partition(".")[2]))
            if found in weights:
                ours[name] = found
        load_strictly(self.body, {name: weights[found] for name, found in ours.items()}, source)


def _plain(name: str) -> str:
    """Returns a name of a weight in the spelling in which timm's networks and wrappers agree."""
    return name.replace("_", ".")
