"""Conversion of the weights of a pretrained ViT to weights of OSTrack's backbone."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from trackers.ostrack.vits import ViTForm

# Parts of pretrained ViTs that a tracker does not run: tokens and position embedding are converted apart from the rest;
# classifiers and attention pooling; mask token and decoder of masked pretraining.
UNUSED = ("cls_token", "reg_token", "pos_embed", "head.", "attn_pool.", "mask_token", "decoder_")
RENAMED = (
    (r"^fc_norm\.", "norm."),  # the norm behind average pooling, of ViTs without class token
    (r"\.gamma_([12])$", r".ls\1.gamma"),  # LayerScale of EVA's blocks
)


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """Resizes a ViT's position embedding to (1, grid * grid, C) (OSTrack's `finetune_track`).

    Args:
        embedding: (1, n * n, C), or (1, 1 + n * n, C) with a class token's entry first, which is left out.
        grid: patches per side.
    """
    side = math.isqrt(embedding.shape[1])
    patches = embedding[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(patches, (grid, grid), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def tracking_weights(
    vit: Mapping[str, Tensor], grids: Mapping[str, int], form: ViTForm, prefix: Mapping[str, int]
) -> dict[str, Tensor]:
    """Returns the weights of a pretrained ViT under the names of OSTrack's backbone.

    Args:
        vit: state dict of the ViT, with timm's or MAE's names.
        grids: patches per side of each of the tracker's position embeddings, by name.
        form: facts about the ViT.
        prefix: names and numbers of the ViT's tokens that stand in front of the template's.
    """
    weights: dict[str, Tensor] = {}
    attention: dict[str, dict[str, Tensor]] = {}
    unused = (*UNUSED, "fc_norm.") if "norm.weight" in vit else UNUSED
    for name, weight in vit.items():
        block, inside, part = name.partition(".attn.")
        if inside:
            attention.setdefault(block + inside, {})[part] = weight
        elif not name.startswith(unused):
            weights[_renamed(name)] = weight
    for at, parts in attention.items():
        weights |= {at + part: weight for part, weight in attention_weights(parts, form).items()}
    if "pos_embed" in vit:
        embedding = vit["pos_embed"][:, _embedded_tokens(form) :]
        weights |= {name: resize_position_embedding(embedding, grid) for name, grid in grids.items()}
    elif not form.has_positions:
        patches = vit["patch_embed.proj.weight"]
        weights |= {name: patches.new_zeros(1, grid * grid, len(patches)) for name, grid in grids.items()}
    if prefix and prefix.keys() <= vit.keys():
        tokens = _tokens(vit, form)
        weights["prefix_tokens"] = torch.cat([tokens[name] for name in prefix], 1)
    return weights


def _embedded_tokens(form: ViTForm) -> int:
    """Returns the number of entries in a position embedding in front of those of the patches."""
    return sum(form.tokens.values()) if form.embeds_tokens else 0


def _tokens(vit: Mapping[str, Tensor], form: ViTForm) -> dict[str, Tensor]:
    """Returns class and register tokens, (1, n, C) each, with their entries of the position embedding added."""
    tokens = {name: vit[name] for name in form.tokens if name in vit}
    if not form.embeds_tokens:
        return tokens
    parts = vit["pos_embed"][:, : _embedded_tokens(form)].split(list(form.tokens.values()), 1)
    entries = dict(zip(form.tokens, parts, strict=True))
    return {name: token + entries[name] for name, token in tokens.items()}


def attention_weights(attention: Mapping[str, Tensor], form: ViTForm) -> dict[str, Tensor]:
    """Returns the weights of one of timm's attentions for `trackers.layers.attention`.

    Projections of their own become one, and keys without a bias get one of 0. Where dims i and i + width / 2 of a head
    rotate as a pair, the rows of queries and keys are sorted such that pairs are neighbours: their product is the same.
    """
    weights = {name: weight for name, weight in attention.items() if name.startswith(("qkv.", "proj."))}
    if "q_proj.weight" in attention:
        weights["qkv.weight"] = torch.cat([attention[f"{part}_proj.weight"] for part in "qkv"])
    for first, last in (("q_proj.bias", "v_proj.bias"), ("q_bias", "v_bias")):
        if first in attention:
            key = attention.get("k_proj.bias", torch.zeros_like(attention[first]))
            weights["qkv.bias"] = torch.cat([attention[first], key, attention[last]])
    if form.rotates_halves:
        for name in ("qkv.weight", "qkv.bias"):
            if name in weights:
                heads = weights[name].unflatten(0, (3, form.heads, 2, -1))
                sorted_rows = heads[:2].transpose(2, 3).flatten(2, 3)
                weights[name] = torch.cat([sorted_rows, heads[2:].flatten(2, 3)]).flatten(0, 2)
    return weights


def _renamed(name: str) -> str:
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name
