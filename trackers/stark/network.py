"""Network of STARK: a CNN, a transformer over the tokens of templates and search region, and the heads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.boxes import xyxy_to_cxcywh
from trackers.layers.backbone_choice import build_backbone
from trackers.layers.stage_readers import groups_with_readers
from trackers.stark.head import ClassHead, CornerHead
from trackers.stark.position import SinePosition
from trackers.stark.transformer import Transformer


class Tokens(NamedTuple):
    """Tokens of one or several crops.

    Attributes:
        features: (B, N, C), or (1, N, C) for all samples.
        position: position embeddings, (B, N, C), or (1, N, C) for all samples.
        padding: padded tokens, (B, N) bool; None if there are none.
    """

    features: Tensor
    position: Tensor
    padding: Tensor | None

    @classmethod
    def cat(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Concatenates the tokens of several crops of the same samples."""
        batch = max(p.features.shape[0] for p in parts)
        features = torch.cat([p.features.expand(batch, -1, -1) for p in parts], 1)
        longest = max(p.position.shape[0] for p in parts)
        position = torch.cat([p.position.expand(longest, -1, -1) for p in parts], 1)
        if all(p.padding is None for p in parts):
            return cls(features, position, None)
        return cls(features, position, torch.cat([p._mask().expand(batch, -1) for p in parts], 1))

    def _mask(self) -> Tensor:
        """Returns the mask of padded tokens (B, N) bool, all False without padding."""
        if self.padding is None:
            return self.features.new_zeros(self.features.shape[:2], dtype=torch.bool)
        return self.padding


class STARKNetwork(nn.Module):
    """Network from crops to boxes.

    Args:
        backbone, stride: see `build_backbone`.
        transformer: arguments of `Transformer`.
        head_channels: channels of the corner head's layers.
        class_head: whether there is a `ClassHead` (STARK-ST).
        corner_offset: `offset` of `CornerHead`.
        template_size: side of the template crops in pixels.
    """

    def __init__(
        self,
        backbone: str | Mapping[str, Any],
        transformer: Mapping[str, Any],
        head_channels: Sequence[int],
        class_head: bool,
        corner_offset: float,
        template_size: int,
        stride: int | None = None,
    ):
        super().__init__()
        width = transformer["width"]
        self.backbone = build_backbone(backbone, stride, maps=1)
        self.template_cells = template_size // self.backbone.stride
        self.bottleneck = nn.Conv2d(self.backbone.width, width, 1)
        self.position = SinePosition(width)
        self.transformer = Transformer(**transformer)
        self.query = nn.Parameter(torch.randn(1, width))
        self.box_head = CornerHead(width, head_channels, corner_offset)
        self.cls_head = ClassHead(width) if class_head else None

    def features(self, crops: Tensor) -> Tensor:
        """Returns the features (B, F * F, C) of normalised crops (B, 3, S, S)."""
        return self.bottleneck(self.backbone(crops)).flatten(2).transpose(1, 2)

    def embed(self, crops: Tensor, padding: Tensor | None) -> Tokens:
        """Returns the tokens of crops.

        Args:
            crops: normalised crops (B, 3, S, S).
            padding: padded rows and columns, (B, 2, S) bool; None for none.
        """
        features = self.features(crops)
        cells = math.isqrt(features.shape[1])
        if padding is None:
            return Tokens(features, self.position.unpadded(cells), None)
        rows, columns = padding[:, :, :: padding.shape[2] // cells].unbind(1)
        mask = rows[:, :, None] | columns[:, None, :]
        return Tokens(features, self.position(mask), mask.flatten(1))

    def forward(
        self,
        search: Tensor,
        template: Tensor | None = None,
        template_features: Tensor | None = None,
        search_padding: Tensor | None = None,
        template_padding: Tensor | None = None,
        boxes: bool = True,
    ) -> dict[str, Tensor]:
        """Finds the target in search crops; returns the outputs of `locate`.

        Args:
            search: normalised crops (B, 3, S, S).
            template: normalised crops (B, T, 3, s, s).
            template_features: features (B, N, C) from `embed`, concatenated over templates without padding, if
                `template` is None.
            search_padding, template_padding: padded rows and columns, (B, 2, S) and (B, T, 2, s) bool; None for none.
            boxes: whether the corner head runs.
        """
        if template_features is None:
            assert template is not None
            paddings = [None] * template.shape[1] if template_padding is None else template_padding.unbind(1)
            templates = [self.embed(t, p) for t, p in zip(template.unbind(1), paddings, strict=True)]
        else:
            position = self.position.unpadded(self.template_cells)
            count = template_features.shape[1] // position.shape[1]
            templates = [Tokens(template_features, position.repeat(1, count, 1), None)]
        return self.locate(Tokens.cat(templates), self.embed(search, search_padding), boxes)

    def locate(self, template: Tokens, search: Tokens, boxes: bool = True) -> dict[str, Tensor]:
        """Finds the target in search crops by their tokens.

        Args:
            template: tokens of the templates.
            search: tokens of the search crops.
            boxes: whether the corner head runs.

        Returns:
            "similarity" (B, F * F), the similarity of each cell to the query. If `boxes` is true, also "boxes" (B, 4),
            cxcywh in units of the crop's side, and "corners" (B, 2, F * F), log-probabilities of both corner maps. If
            there is a class head, also "class_logit" (B,).
        """
        tokens, count = Tokens.cat([template, search]), template.features.shape[1]
        query = self.query[None]
        memory, found = self.transformer(tokens.features, tokens.position, tokens.padding, query, count)
        cells = memory[:, count:]
        similarity = (cells @ found.transpose(1, 2))[..., 0]
        result = {"similarity": similarity}
        if boxes:
            side = math.isqrt(cells.shape[1])
            corners, maps = self.box_head((cells * similarity[..., None]).transpose(1, 2).unflatten(2, (side, side)))
            result |= {"boxes": xyxy_to_cxcywh(corners), "corners": maps}
        if self.cls_head is not None:
            result["class_logit"] = self.cls_head(found[:, 0])
        return result

    def groups(self) -> list[Group]:
        """Returns the groups of backbone, transformer and heads, and of the tokens' width."""
        groups = groups_with_readers(self.backbone, [lambda gated: [Slice("bottleneck.weight", 1, gated=gated)]])
        groups += [g.with_prefix("transformer.") for g in self.transformer.groups()]
        slices, norms = self.transformer.width_slices()
        width = [Slice(f"bottleneck.{p}", 0, gated=True) for p in ("weight", "bias")]
        width += [Slice("query", 1, gated=True)]
        width += [replace(s, path=f"position.{s.path}") for s in self.position.slices()]
        width += [replace(s, path=f"transformer.{s.path}") for s in slices]
        width += [replace(s, path=f"box_head.{s.path}") for s in self.box_head.input_slices()]
        if self.cls_head is not None:
            width.append(Slice("cls_head.layers.0.weight", 1))
            groups += [g.with_prefix("cls_head.") for g in self.cls_head.groups()]
        size = self.query.shape[1]
        groups.append(Group("width", "width", size, tuple(width), tuple(f"transformer.{n}" for n in norms)))
        return [*groups, *(g.with_prefix("box_head.") for g in self.box_head.groups())]
