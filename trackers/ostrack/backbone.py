"""Backbone of OSTrack: one timm ViT that reads the tokens of template and search region together."""

import difflib
import math
from dataclasses import replace
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.errors import TrackerError
from trackers.layers.attention import Attention, initialise_for_matching
from trackers.ostrack.elimination import Elimination, best_candidates, restore_tokens, scoring_token, select_tokens
from trackers.ostrack.stem import ConvStem


class OneStreamViT(nn.Module):
    """timm ViT over template and search tokens, with the parameter names of official OSTrack checkpoints.

    Args:
        name: plain ViT of timm, e.g. "vit_base_patch16_224", or "vit_base_patch16_224.mae" with pretrained weights.
        template_size, search_size: sides of the crops in pixels.
        elimination: candidate elimination; None for none.
        stem_hidden: hidden channels of a `ConvStem` (stride 8) in place of the ViT's patch embedding; None for the
            ViT's own.
        matching_init: whether attention starts by comparing content, see `initialise_for_matching`. Without it, a small
            ViT that is trained from scratch spends most of its training on learning to compare.
        drop_path_rate: stochastic depth rate of the last block; the rate rises linearly from 0.
        embed_dim, depth, num_heads, mlp_ratio: sizes that replace those of the named ViT; None for no replacement.

    Attributes:
        name: name of the ViT.
        matching_init: the argument.
        keep: share of the search tokens that every eliminating block keeps in the present epoch of a training; None for
            the shares of `elimination`.
    """

    def __init__(
        self,
        name: str,
        template_size: int,
        search_size: int,
        elimination: Elimination | None = None,
        stem_hidden: int | None = None,
        matching_init: bool = False,
        drop_path_rate: float = 0.0,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
    ):
        super().__init__()
        architecture, _, _ = name.partition(".")  # the rest names pretrained weights
        known = [n for m in ("vision_transformer", "deit") for n in timm.list_models(module=m) if "distilled" not in n]
        if architecture not in known:
            near = difflib.get_close_matches(architecture, known, cutoff=0)
            raise TrackerError(f"timm has no plain ViT named '{name}'; similar names: {near}. Try vit_base_patch16_224")
        sizes = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio}
        changes: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
        if stem_hidden is not None:
            changes["embed_layer"] = partial(ConvStem, hidden=stem_hidden)
        vit: Any = timm.create_model(
            name,
            num_classes=0,
            global_pool="",
            class_token=False,
            pos_embed="none",
            attn_layer=Attention,
            img_size=search_size,
            drop_path_rate=drop_path_rate,
            **changes,
        )
        _check_plain(vit, name)
        self.patch_embed, self.blocks, self.norm = vit.patch_embed, vit.blocks, vit.norm
        if stem_hidden is None:
            self.patch_embed.strict_img_size = False
        self.stride = 8 if stem_hidden is not None else self.patch_embed.patch_size[0]
        for side in (template_size, search_size):
            if side % self.stride:
                raise TrackerError(f"crop size {side} is not a multiple of the backbone's stride {self.stride}")
        self.width = vit.embed_dim
        self.pos_embed_z = _position_embedding((template_size // self.stride) ** 2, self.width)
        self.pos_embed_x = _position_embedding((search_size // self.stride) ** 2, self.width)
        self.name, self.elimination = name, elimination
        self.keep: float | None = None
        if elimination is not None and not all(0 <= i < len(self.blocks) for i in elimination.blocks):
            raise TrackerError(
                f"tracker.elimination.blocks={list(elimination.blocks)}, but {name} has {len(self.blocks)} blocks; "
                f"choose indices from 0 to {len(self.blocks) - 1}"
            )
        self.matching_init = matching_init
        if matching_init:
            for block in self.blocks:
                initialise_for_matching(block.attn)

    def embed_template(self, template: Tensor) -> Tensor:
        """Returns the tokens (B, Nz, C) of template crops (B, 3, S, S). They do not depend on the search crop."""
        return self.patch_embed(template) + self.pos_embed_z

    def forward(self, template_tokens: Tensor, search: Tensor) -> Tensor:
        """Returns features (B, Nx, C) of search crops (B, 3, S, S) given template tokens (B, Nz, C).

        Features of eliminated candidates are zero.
        """
        count = template_tokens.shape[1]
        tokens = torch.cat([template_tokens, self.patch_embed(search) + self.pos_embed_x], 1)
        alive, cells = None, tokens.shape[1] - count
        for block, share in zip(self.blocks, self.shares(), strict=True):
            if share == 1:
                tokens = block(tokens)
            else:
                tokens, stay = _run_eliminating(block, tokens, count, share)
                alive = stay if alive is None else alive.gather(1, stay)
        features = self.norm(tokens)[:, count:]
        return features if alive is None else restore_tokens(features, alive, cells)

    def shares(self) -> list[float]:
        """Returns the share of the search tokens that each block keeps."""
        shares = [1.0] * len(self.blocks)
        if self.elimination is not None:
            for i, share in zip(self.elimination.blocks, self.elimination.keep, strict=True):
                shares[i] = share if self.keep is None else self.keep
        return shares

    def groups(self) -> list[Group]:
        """Returns the groups of the stem, of attention and MLP of every block, and of the residual stream's width.

        The group of the width is the last one. The caller adds the slices of the head that read the width.
        """
        groups = [g.with_prefix("patch_embed.") for g in self.patch_embed.groups()] if self.has_stem else []
        produced = "patch_embed.conv2" if self.has_stem else "patch_embed.proj"
        width = [
            Slice(f"{produced}.weight", 0, gated=True),
            Slice(f"{produced}.bias", 0, gated=True),
            Slice("pos_embed_z", 2, gated=True),
            Slice("pos_embed_x", 2, gated=True),
            Slice("norm.weight", 0),
            Slice("norm.bias", 0),
        ]
        norms = ["norm"]
        for i, block in enumerate(self.blocks):
            at = f"blocks.{i}."
            for norm, reader, writer, inner in (
                ("norm1", "attn.qkv", "attn.proj", [g.with_prefix("attn.") for g in block.attn.groups()]),
                ("norm2", "mlp.fc1", "mlp.fc2", [g.with_prefix("mlp.") for g in _mlp_groups(block.mlp)]),
            ):
                # The output of a branch without units is its output bias, so the norm in front of the branch vanishes.
                groups += [replace(g.with_prefix(at), vanish=(at + norm,)) for g in inner]
                if inner:
                    norms.append(at + norm)
                    width += [Slice(f"{at}{norm}.{p}", 0) for p in ("weight", "bias")]
                width.append(Slice(f"{at}{reader}.weight", 1))
                width += [Slice(f"{at}{writer}.{p}", 0, gated=True) for p in ("weight", "bias")]
        return [*groups, Group("width", "width", self.pos_embed_x.shape[2], tuple(width), tuple(norms))]

    @property
    def has_stem(self) -> bool:
        """Whether a `ConvStem` embeds the patches."""
        return isinstance(self.patch_embed, ConvStem)


def _run_eliminating(block: Any, tokens: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Runs a timm block that keeps only a share of its search tokens between attention and MLP.

    Args:
        block: the block.
        tokens: `count` template tokens, then the search tokens.
        count: number of template tokens.
        share: share of the search tokens that stay.

    Returns:
        The remaining tokens, and the indices of the remaining search tokens, (B, n).
    """
    attended, scores = block.attn.with_scores(block.norm1(tokens), scoring_token(math.isqrt(count)))
    tokens = tokens + block.drop_path1(attended)
    stay = best_candidates(scores[:, count:], share)
    tokens = torch.cat([tokens[:, :count], select_tokens(tokens[:, count:], stay)], 1)
    return tokens + block.drop_path2(block.mlp(block.norm2(tokens))), stay


def _check_plain(vit: Any, name: str) -> None:
    """Raises TrackerError if a ViT has parts that this backbone would not run or declare as groups."""
    block, embed = vit.blocks[0], vit.patch_embed
    odd = {
        f"blocks that are {type(block).__name__}": type(block) is not Block,
        "LayerScale": not isinstance(getattr(block, "ls1", None), nn.Identity | None),
        "register tokens": vit.reg_token is not None,
        "a norm before the blocks": not isinstance(vit.norm_pre, nn.Identity),
        f"a {type(embed).__name__}": not isinstance(embed, PatchEmbed | ConvStem),
        "a patch embedding without bias": isinstance(embed, PatchEmbed) and embed.proj.bias is None,
    }
    if any(odd.values()):
        found = ", ".join(part for part, present in odd.items() if present)
        raise TrackerError(f"{name} has {found}: not supported here; choose a plain ViT, e.g. vit_base_patch16_224")


def _mlp_groups(mlp: Any) -> list[Group]:
    """Returns the group of the hidden units of a timm Mlp.

    Gates act behind the activation, so that masks are exact for every activation.
    """
    slices = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
    return [Group("", "mlp", mlp.fc1.out_features, slices)] if mlp.fc1.out_features else []


def _position_embedding(tokens: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, width), std=0.02))
