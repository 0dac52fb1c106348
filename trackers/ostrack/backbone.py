"""Backbone of OSTrack: one timm ViT that reads the tokens of template and search region together."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.errors import TrackerError
from trackers.layers.attention import Attention, initialise_for_matching
from trackers.ostrack.block import OneStreamBlock, norm_slices, slices_of
from trackers.ostrack.elimination import Elimination, best_candidates, restore_tokens, scoring_token, select_tokens
from trackers.ostrack.initialisation import attention_weights
from trackers.ostrack.rotary import identity_table, rotary_table
from trackers.ostrack.stem import ConvStem
from trackers.ostrack.vits import ViTForm, build_vit


class OneStreamViT(nn.Module):
    """timm ViT over template and search tokens, with the parameter names of official OSTrack checkpoints.

    The tokens are the prefix tokens (register tokens, with the class token in front of them if it is asked for), the
    template tokens and the search tokens. All of them attend to each other.

    With rotary position embeddings, the tokens of each crop have the positions that the ViT gives a picture of the
    crop's size, as learned position embeddings are resized to each crop, too: the pretrained attention knows no others.
    Prefix tokens do not rotate. A ViT without learned position embeddings gets some that start at 0. Only they tell a
    template token from the search token at the same place.

    Args:
        name: ViT of timm, e.g. "vit_base_patch16_224", or "vit_base_patch16_224.mae" with pretrained weights.
            `trackers.ostrack.vits` tells which ViTs are supported.
        template_size, search_size: sides of the crops in pixels.
        elimination: candidate elimination; None for none.
        stem_hidden: hidden channels of a `ConvStem` (stride 8) in place of the ViT's patch embedding; None for the
            ViT's own.
        matching_init: whether attention starts by comparing content, see `initialise_for_matching`. Without it, a small
            ViT that is trained from scratch spends most of its training on learning to compare.
        class_token: whether the ViT's class token takes part; official OSTrack leaves it out.
            Register tokens always take part.
        drop_path_rate: stochastic depth rate of the last block; the rate rises linearly from 0.
        embed_dim, depth, num_heads, mlp_ratio: sizes that replace those of the named ViT; None for no replacement.

    Attributes:
        name: name of the ViT.
        form: facts about the ViT that its pretrained weights do not tell.
        prefix: names and numbers of the ViT's tokens that stand in front of the template's.
        matching_init: the argument.
        keep: share of the search tokens that every eliminating block keeps in the present epoch of a training; None for
            the shares of `elimination`.

    Raises:
        TrackerError: the ViT is unknown or has a part that is not supported, or an argument does not fit it.
    """

    blocks: Any
    rotary: Tensor | None

    def __init__(
        self,
        name: str,
        template_size: int,
        search_size: int,
        elimination: Elimination | None = None,
        stem_hidden: int | None = None,
        matching_init: bool = False,
        class_token: bool = False,
        drop_path_rate: float = 0.0,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
    ):
        super().__init__()
        sizes = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio}
        changes: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
        vit, self.form = build_vit(name, search_size, stem_hidden, drop_path_rate=drop_path_rate, **changes)
        rope = getattr(vit, "rope", None)
        self.patch_embed, self.norm_pre = vit.patch_embed, vit.norm_pre
        self.blocks = nn.Sequential(*(OneStreamBlock(b, self._attention(b, rope is not None)) for b in vit.blocks))
        self.norm = vit.norm
        if stem_hidden is None:
            self.patch_embed.strict_img_size = False
        self.stride = 8 if stem_hidden is not None else self.patch_embed.patch_size[0]
        _check_sizes(name, self.stride, template_size, search_size)
        self.width, self.template_grid = vit.embed_dim, template_size // self.stride
        self.pos_embed_z = self._position_embedding(self.template_grid)
        self.pos_embed_x = self._position_embedding(search_size // self.stride)
        self.prefix = _prefix(name, self.form, class_token)
        self.prefix_tokens = self._prefix_tokens()
        self.register_buffer("rotary", self._rotary(rope, search_size // self.stride), persistent=False)
        self.name, self.elimination = name, elimination
        self.keep: float | None = None
        if elimination is not None and not all(0 <= i < len(self.blocks) for i in elimination.blocks):
            raise TrackerError(
                f"tracker.elimination.blocks={list(elimination.blocks)}, but {name} has {len(self.blocks)} blocks; "
                f"choose indices from 0 to {len(self.blocks) - 1}"
            )
        self.matching_init = matching_init
        if matching_init:
            for attention in (m for m in self.blocks.modules() if isinstance(m, Attention)):
                initialise_for_matching(attention)

    def _attention(self, block: Any, rotates: bool) -> Attention:
        """Returns the attention of a block, with heads of any width."""
        if isinstance(block.attn, Attention):
            return block.attn
        weights = attention_weights(block.attn.state_dict(), self.form)
        proj = block.attn.proj
        attention = Attention(
            proj.in_features, self.form.heads, "qkv.bias" in weights, proj.bias is not None, rotary=rotates
        )
        attention.load_state_dict(weights)
        return attention

    def _position_embedding(self, grid: int) -> nn.Parameter:
        """Returns a position embedding (1, grid * grid, C), 0 if the ViT has none that could be loaded."""
        embedding = torch.zeros(1, grid * grid, self.width)
        return nn.Parameter(nn.init.trunc_normal_(embedding, std=0.02) if self.form.has_positions else embedding)

    def _prefix_tokens(self) -> nn.Parameter | None:
        """Returns the tokens (1, P, C) in front of the template's, with their part of the position embedding."""
        count = sum(self.prefix.values())
        if not count:
            return None
        return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, self.width), std=0.02))

    def _rotary(self, rope: Any, search_grid: int) -> Tensor | None:
        """Returns the rotary positions of all tokens, see `Attention.forward`; None for a ViT without them."""
        if rope is None:
            return None
        template, search = rotary_table(rope, self.template_grid), rotary_table(rope, search_grid)
        return torch.cat([identity_table(sum(self.prefix.values()), template.shape[2]), template, search], 1)

    def embed_template(self, template: Tensor) -> Tensor:
        """Returns the tokens (B, Nz, C) of template crops (B, 3, S, S). They do not depend on the search crop."""
        return self.norm_pre(self.patch_embed(template) + self.pos_embed_z)

    def forward(self, template_tokens: Tensor, search: Tensor) -> Tensor:
        """Returns features (B, Nx, C) of search crops (B, 3, S, S) given template tokens (B, Nz, C).

        Features of eliminated candidates are zero.
        """
        parts = [template_tokens, self.norm_pre(self.patch_embed(search) + self.pos_embed_x)]
        if self.prefix_tokens is not None:
            parts.insert(0, self.norm_pre(self.prefix_tokens).expand(template_tokens.shape[0], -1, -1))
        tokens, rotary = torch.cat(parts, 1), self.rotary
        cells = parts[-1].shape[1]
        first = tokens.shape[1] - cells
        alive = None
        for block, share in zip(self.blocks, self.shares(), strict=True):
            if share == 1:
                tokens = block(tokens, rotary)
                continue
            query = first - self.template_grid**2 + scoring_token(self.template_grid)
            tokens, stay = _run_eliminating(block, tokens, first, query, share, rotary)
            alive = stay if alive is None else alive.gather(1, stay)
            if rotary is not None:
                rotary = _select_search(rotary.expand(tokens.shape[0], -1, -1), first, stay)
        features = self.norm(tokens)[:, first:]
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
        # What the last norm in front of the blocks writes carries the gate; what a norm reads is masked alone.
        before = ["patch_embed.norm", "norm_pre"] if not self.has_stem else ["norm_pre"]
        normed = [norm for norm in before if slices_of(self, norm)]
        width = slices_of(self, "patch_embed.conv2" if self.has_stem else "patch_embed.proj", **_carries(not normed))
        embeddings = ["pos_embed_z", "pos_embed_x", *(["prefix_tokens"] if self.prefix_tokens is not None else [])]
        width += [Slice(name, 2, **_carries("norm_pre" not in normed)) for name in embeddings]
        width += [s for norm in normed for s in slices_of(self, norm, **_carries(norm == normed[-1]))]
        width += norm_slices(self, "norm")
        norms = [*normed, *(["norm"] if norm_slices(self, "norm") else [])]
        for i, block in enumerate(self.blocks):
            at = f"blocks.{i}."
            groups += [g.with_prefix(at) for g in block.groups()]
            slices, block_norms = block.width_slices()
            width += [replace(s, path=at + s.path) for s in slices]
            norms += [at + norm for norm in block_norms]
        return [*groups, Group("width", "width", self.pos_embed_x.shape[2], tuple(width), tuple(norms))]

    @property
    def has_stem(self) -> bool:
        """Whether a `ConvStem` embeds the patches."""
        return isinstance(self.patch_embed, ConvStem)


def _run_eliminating(
    block: OneStreamBlock, tokens: Tensor, first: int, query: int, share: float, rotary: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Runs a block that keeps only a share of its search tokens between attention and MLP.

    Args:
        block: the block.
        tokens: prefix tokens and template tokens, which all stay, then the search tokens, (B, N, C).
        first: index of the first search token.
        query: index of the template token whose attention ranks the search tokens.
        share: share of the search tokens that stay.
        rotary: see `Attention.forward`.

    Returns:
        The remaining tokens, and the indices of the remaining search tokens, (B, n).
    """
    attended, scores = block.attn.with_scores(block.norm1(tokens), query, rotary)
    tokens = tokens + block.drop_path1(block.ls1(attended))
    stay = best_candidates(scores[:, first:], share)
    return block.behind_attention(_select_search(tokens, first, stay)), stay


def _select_search(tokens: Tensor, first: int, stay: Tensor) -> Tensor:
    """Returns the tokens before index `first`, and the search tokens at the positions `stay` (B, n) behind them."""
    return torch.cat([tokens[:, :first], select_tokens(tokens[:, first:], stay)], 1)


def _carries(gate: bool) -> dict[str, Any]:
    """Returns the attributes of a slice that carries the gate, or that is only masked."""
    return {"gated": True} if gate else {"masked": True}


def _prefix(name: str, form: ViTForm, class_token: bool) -> dict[str, int]:
    """Returns names and numbers of the ViT's tokens that stand in front of the template's."""
    if class_token and "cls_token" not in form.tokens:
        raise TrackerError(f"tracker.vit.class_token=true, but {name} has no class token: set it to false")
    return {key: count for key, count in form.tokens.items() if class_token or key != "cls_token"}


def _check_sizes(name: str, stride: int, template_size: int, search_size: int) -> None:
    """Raises TrackerError if a crop is no multiple of the stride; the message names sizes that are."""
    sizes = {"tracker.template.size": template_size, "tracker.search.size": search_size}
    if odd := [f"{key}={size}" for key, size in sizes.items() if size % stride]:
        fitting = " ".join(f"{key}={max(round(size / stride), 1) * stride}" for key, size in sizes.items())
        raise TrackerError(f"{' and '.join(odd)} must be a multiple of {stride}, the stride of {name}; e.g. {fitting}")
