"""Network of OSTrack: a ViT that reads template and search region together, and the CENTER head."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pruning.groups import Group
from trackers.ostrack.backbone import OneStreamViT
from trackers.ostrack.elimination import Elimination
from trackers.ostrack.head import CenterHead


class OSTrackNetwork(nn.Module):
    """Network from crops to the maps of the head. Its parts have their official names, `backbone` and `box_head`.

    Args:
        backbone: name of a timm ViT.
        template_size, search_size: sides of the crops in pixels.
        vit: further arguments of `OneStreamViT`.
        elimination: candidate elimination; None for none.
        head_channels: channels of the head's layers.
    """

    def __init__(
        self,
        backbone: str,
        template_size: int,
        search_size: int,
        vit: Mapping[str, Any],
        elimination: Elimination | None,
        head_channels: Sequence[int],
    ):
        super().__init__()
        self.backbone = OneStreamViT(backbone, template_size, search_size, elimination, **vit)
        self.box_head = CenterHead(self.backbone.width, head_channels)
        self.cells = search_size // self.backbone.stride

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Returns the maps of `CenterHead` for normalised template (B, 3, h, w) and search crops (B, 3, H, W)."""
        return self.search(self.backbone.embed_template(template), search)

    def search(self, template_tokens: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Returns the maps of `CenterHead` for template tokens (B, Nz, C) and normalised search crops (B, 3, H, W).

        The backbone's `embed_template` returns template tokens.
        """
        features = self.backbone(template_tokens, search)
        return self.box_head(features.transpose(1, 2).unflatten(2, (self.cells, self.cells)))

    def groups(self) -> list[Group]:
        """Returns the groups of backbone and head. The group of the width also cuts the inputs of the head."""
        *inner, width = (g.with_prefix("backbone.") for g in self.backbone.groups())
        read = tuple(replace(s, path=f"box_head.{s.path}") for s in self.box_head.input_slices())
        width = replace(width, slices=width.slices + read)
        return [*inner, width, *(g.with_prefix("box_head.") for g in self.box_head.groups())]
