"""Backbones: timm's networks, cut down to what trackers run, with their pruning groups declared."""

from functools import partial
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.attention import Attention


class ConvStem(nn.Module):
    """Two strided convolutions in place of a ViT's patch embedding (stride 8): far cheaper to train from scratch.

    LayerNorm, not BatchNorm, because template and search crops share it and have different statistics.
    Arguments are those that timm gives to an `embed_layer`.
    """

    def __init__(self, embed_dim: int, hidden: int, in_chans: int = 3, **unused: object):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, hidden, 4, stride=4)
        self.norm = nn.LayerNorm(hidden)
        self.conv2 = nn.Conv2d(hidden, embed_dim, 3, stride=2, padding=1)
        self.num_patches = 0  # asked for by timm to size position embeddings, which trackers have of their own

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to tokens (B, H / 8 * W / 8, C), row by row."""
        x = self.norm(self.conv1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.conv2(nn.functional.gelu(x)).flatten(2).transpose(1, 2)

    def groups(self) -> list[Group]:
        """The channels between the two convolutions."""
        slices = (
            Slice("conv1.weight", 0, gated=True),
            Slice("conv1.bias", 0, gated=True),
            Slice("norm.weight", 0),
            Slice("norm.bias", 0),
            Slice("conv2.weight", 1),
        )
        return [Group("hidden", "stem", self.conv1.out_channels, slices, norms=("norm",))]


class OneStreamViT(nn.Module):
    """A timm ViT that reads template and search tokens together (OSTrack's backbone, official parameter names).

    Args:
        name: any plain timm ViT, e.g. "vit_base_patch16_224".
        template_size, search_size: crop sides in pixels.
        stem_hidden: channels of a `ConvStem` (stride 8) in place of the ViT's own patch embedding; None keeps that.
        matching_init: start with attention that looks for similar content, which a small ViT trained from scratch
            otherwise spends most of its time to learn.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        embed_dim, depth, num_heads, mlp_ratio: sizes other than the named model's; None keeps those.
    """

    def __init__(
        self,
        name: str,
        template_size: int,
        search_size: int,
        stem_hidden: int | None = None,
        matching_init: bool = False,
        drop_path_rate: float = 0.0,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
    ):
        super().__init__()
        if name not in timm.list_models("vit_*"):
            near = timm.list_models(f"*{name[:12]}*")[:5]
            raise ValueError(f"timm has no ViT named '{name}'; near it: {near}. Try vit_base_patch16_224")
        sizes = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio}
        changes: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
        if stem_hidden is not None:
            changes["embed_layer"] = partial(ConvStem, hidden=stem_hidden)
        vit = timm.create_model(
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
                raise ValueError(f"crop size {side} is not a multiple of the backbone's stride {self.stride}")
        self.width = vit.embed_dim
        self.pos_embed_z = _position_embedding((template_size // self.stride) ** 2, self.width)
        self.pos_embed_x = _position_embedding((search_size // self.stride) ** 2, self.width)
        if matching_init:
            for block in self.blocks:
                _start_by_matching(block.attn)

    def embed_template(self, template: Tensor) -> Tensor:
        """Template crops (B, 3, S, S) to tokens (B, Nz, C); they do not depend on the search crop."""
        return self.patch_embed(template) + self.pos_embed_z

    def forward(self, template_tokens: Tensor, search: Tensor) -> Tensor:
        """Joint features of the search crop: tokens (B, Nz, C) and crops (B, 3, S, S) to (B, Nx, C)."""
        tokens = torch.cat([template_tokens, self.patch_embed(search) + self.pos_embed_x], 1)
        tokens = self.norm(self.blocks(tokens))
        return tokens[:, template_tokens.shape[1] :]

    def groups(self) -> list[Group]:
        """Attention and MLP of every block, the stem if there is one, and the width of the residual stream.

        The width's readers outside (a head's first layer) are for the caller to add.
        """
        groups = [g.under("patch_embed.") for g in self.patch_embed.groups()] if self.has_stem else []
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
            groups += [g.under(f"{at}attn.") for g in block.attn.groups()]
            groups.append(_mlp_group(block.mlp).under(f"{at}mlp."))
            norms += [f"{at}norm1", f"{at}norm2"]
            width += [Slice(f"{at}{norm}.{p}", 0) for norm in ("norm1", "norm2") for p in ("weight", "bias")]
            width += [Slice(f"{at}attn.qkv.weight", 1), Slice(f"{at}mlp.fc1.weight", 1)]
            width += [
                Slice(f"{at}{out}.{p}", 0, gated=True) for out in ("attn.proj", "mlp.fc2") for p in ("weight", "bias")
            ]
        return [*groups, Group("width", "width", self.pos_embed_x.shape[2], tuple(width), tuple(norms))]

    @property
    def has_stem(self) -> bool:
        """Whether a `ConvStem` embeds the patches."""
        return isinstance(self.patch_embed, ConvStem)


def _check_plain(vit: nn.Module, name: str) -> None:
    """Raises ValueError where a ViT has parts that this backbone would neither run nor declare."""
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
        found = ", ".join(part for part, has in odd.items() if has)
        raise ValueError(f"{name} has {found}: not supported here; choose a plain ViT, e.g. vit_base_patch16_224")


def _mlp_group(mlp: nn.Module) -> Group:
    """The hidden units of a timm Mlp, gated where they are read, so that any activation stays exact."""
    slices = (Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1, gated=True))
    return Group("", "mlp", mlp.fc1.out_features, slices)


def _position_embedding(tokens: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, width), std=0.02))


@torch.no_grad()
def _start_by_matching(attention: Attention) -> None:
    """W_q = W_k, so that logits start as similarity of content; W_v and W_proj near a scaled identity."""
    dim = attention.proj.in_features
    query = torch.randn(dim, dim) * dim**-0.5
    near_identity = [0.5 * torch.eye(dim) + 0.02 * torch.randn(dim, dim) for _ in range(2)]
    attention.qkv.weight.copy_(torch.cat([query, query, near_identity[0]]))
    attention.proj.weight.copy_(near_identity[1])
