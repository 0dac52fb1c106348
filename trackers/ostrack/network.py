"""OSTrack's network: a ViT that reads template and search together, and the CENTER head."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pruning.groups import Group
from trackers.ostrack.backbone import OneStreamViT
from trackers.ostrack.elimination import Elimination
from trackers.ostrack.head import CenterHead


class OSTrackNetwork(nn.Module):
    """Backbone and head under their official names (`backbone`, `box_head`).

    Args:
        backbone: name of a timm ViT.
        template_size, search_size: crop sides in pixels.
        vit: further arguments of `OneStreamViT`.
        elimination: which candidates leave on the way, if any.
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
        """Normalised crops (B, 3, h, w) and (B, 3, H, W) to the head's maps, see `CenterHead`."""
        return self.search(self.backbone.embed_template(template), search)

    def search(self, template_tokens: Tensor, search: Tensor) -> dict[str, Tensor]:
        """The same for a template that was embedded before."""
        features = self.backbone(template_tokens, search)
        return self.box_head(features.transpose(1, 2).unflatten(2, (self.cells, self.cells)))

    def groups(self) -> list[Group]:
        """Those of the backbone and of the head; the head reads the backbone's width."""
        *inner, width = (g.under("backbone.") for g in self.backbone.groups())
        read = tuple(replace(s, path=f"box_head.{s.path}") for s in self.box_head.input_slices())
        width = replace(width, slices=width.slices + read)
        return [*inner, width, *(g.under("box_head.") for g in self.box_head.groups())]
