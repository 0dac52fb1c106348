"""Transformer of STARK: the post-norm transformer of DETR with one query."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.layers.attention import Attention, SingleQueryAttention, initialise_for_matching


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them.

    Args:
        width: channels of the tokens.
        hidden: number of hidden units.
        dropout: dropout probability of the hidden units.
    """

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (..., C) to tokens (..., C)."""
        return self.linear2(self.dropout(self.linear1(x).relu()))

    def groups(self) -> list[Group]:
        """Returns the group of the hidden units. The layer that reads the units carries the gates."""
        slices = (Slice("linear1.weight", 0), Slice("linear1.bias", 0), Slice("linear2.weight", 1, gated=True))
        size = self.linear1.out_features
        return [Group("", "mlp", size, slices, vanish=())] if size else []


class EncoderLayer(nn.Module):
    """Self-attention of all tokens and a feed-forward part, each followed by a norm.

    Args:
        width: channels of the tokens.
        heads: number of attention heads.
        hidden: number of hidden units.
        dropout: dropout probability of attention maps, of the outputs of both parts and of hidden units.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.self_attn, self.mlp = Attention(width, heads), FeedForward(width, hidden, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor, bias: Tensor | None, position_in_values: bool) -> Tensor:
        """Maps tokens (B, N, C) to tokens (B, N, C); see `Attention.attend` for `bias`."""
        query = x + position
        value = query if position_in_values else x
        attended = self.self_attn.attend(query, query, value, bias, self.dropout.p * self.training)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.mlp(x)))


class DecoderLayer(nn.Module):
    """Self-attention of the query's token, attention of this token to the memory, and a feed-forward part.

    Args:
        width, heads, hidden, dropout: as in `EncoderLayer`.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.self_attn, self.multihead_attn = SingleQueryAttention(width), Attention(width, heads)
        self.mlp = FeedForward(width, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, query: Tensor, keys: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
        """Maps the token (B, 1, C) to a token (B, 1, C), given keys and memory (B, N, C)."""
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        attended = self.multihead_attn.attend(x + query, keys, memory, bias, self.dropout.p * self.training)
        x = self.norm2(x + self.dropout(attended))
        return self.norm3(x + self.dropout(self.mlp(x)))


class _Stack(nn.Module):
    """Layers of the encoder, or layers and norm of the decoder, by their official names."""

    layers: nn.ModuleList
    norm: nn.LayerNorm


class Transformer(nn.Module):
    """Encoder of the tokens of all crops, and decoder of one query.

    Args:
        width, heads, hidden: see `EncoderLayer`.
        encoder_layers, decoder_layers: number of layers.
        dropout: see `EncoderLayer`.
        matching_init: whether the encoder's attention starts by comparing content, see `initialise_for_matching`.
        position_in_values: whether positions are added to the encoder's values, not only to queries and keys.
        template_heads: number of heads in each encoder layer with a learned bias that first favours template tokens; 0
            for no bias, as in the original.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float,
        matching_init: bool = False,
        position_in_values: bool = False,
        template_heads: int = 0,
    ):
        super().__init__()
        sizes = (width, heads, hidden, dropout)
        self.encoder, self.decoder = _Stack(), _Stack()
        layers = [EncoderLayer(*sizes) for _ in range(encoder_layers)]
        self.encoder.layers = nn.ModuleList(layers)
        self.decoder.layers = nn.ModuleList(DecoderLayer(*sizes) for _ in range(decoder_layers))
        self.decoder.norm = nn.LayerNorm(width)
        self.width, self.position_in_values, self.matching_init = width, position_in_values, matching_init
        self.template_bias = None
        if template_heads:
            bias = torch.zeros(encoder_layers, heads)
            bias[:, :template_heads] = 3.0
            self.template_bias = nn.Parameter(bias)
        for p in self.parameters():
            if p.dim() > 1 and p is not self.template_bias:
                nn.init.xavier_uniform_(p)
        if matching_init:
            for layer in layers:
                initialise_for_matching(layer.self_attn)

    def forward(
        self, tokens: Tensor, position: Tensor, padding: Tensor | None, query: Tensor, templates: int
    ) -> tuple[Tensor, Tensor]:
        """Runs encoder and decoder.

        Args:
            tokens, position: (B, N, C), template tokens first.
            padding: tokens that get no attention, (B, N) bool; None for none.
            query: the learned query, (1, 1, C).
            templates: number of template tokens.

        Returns:
            The memory (B, N, C) and the query's token (B, 1, C).
        """
        free = None if padding is None else ~padding[:, None, None]
        memory = tokens
        biases = self._biases(tokens, templates, free)
        for layer, bias in zip(self.encoder.layers, biases, strict=True):
            memory = layer(memory, position, bias, self.position_in_values)
        found, keys = torch.zeros_like(query).expand(tokens.shape[0], -1, -1), memory + position
        for layer in self.decoder.layers:
            found = layer(found, query, keys, memory, free)
        return memory, self.decoder.norm(found)

    def _biases(self, tokens: Tensor, templates: int, free: Tensor | None) -> Iterator[Tensor | None]:
        """Yields the attention bias of each encoder layer: that of the templates, with -inf for padding.

        Each is (B or 1, heads, 1, N). Without a bias for templates, it is `free` (B, 1, 1, N) bool or None.
        """
        if self.template_bias is None:
            yield from [free] * len(self.encoder.layers)
            return
        is_template = torch.arange(tokens.shape[1], device=tokens.device) < templates
        for by_head in self.template_bias:
            bias = (by_head[:, None, None] * is_template).to(tokens.dtype)[None]
            yield bias if free is None else bias.masked_fill(~free, -torch.inf)

    def groups(self) -> list[Group]:
        """Returns the groups of attention dims and hidden units; kinds of the decoder's groups end in "_decoder"."""
        inner = []
        for path, layer in self._named_layers():
            suffix = "" if path.startswith("encoder.") else "_decoder"
            for name in ("self_attn", "multihead_attn", "mlp"):
                if hasattr(layer, name):
                    found = [g.with_prefix(f"{path}.{name}.") for g in layer.get_submodule(name).groups()]
                    inner += [replace(g, kind=f"{g.kind}{suffix}") for g in found]
        return inner

    def width_slices(self) -> tuple[list[Slice], list[str]]:
        """Returns the slices that read or write the tokens' width, and the paths of its norms."""
        slices, norms = [], ["decoder.norm"]
        for path, layer in self._named_layers():
            norms += [f"{path}.{name}" for name, _ in layer.named_children() if name.startswith("norm")]
            for reader in ("self_attn.qkv", "self_attn.value", "multihead_attn.qkv", "mlp.linear1"):
                if _has(layer, reader):
                    slices.append(Slice(f"{path}.{reader}.weight", 1))
            for writer in ("self_attn.proj", "multihead_attn.proj", "mlp.linear2"):
                if _has(layer, writer):
                    slices += [Slice(f"{path}.{writer}.{p}", 0, gated=True) for p in ("weight", "bias")]
        slices += [Slice(f"{norm}.{p}", 0) for norm in norms for p in ("weight", "bias")]
        return slices, norms

    def _named_layers(self) -> Iterator[tuple[str, Any]]:
        for stack in ("encoder", "decoder"):
            layers = self.get_submodule(f"{stack}.layers").named_children()
            yield from ((f"{stack}.layers.{i}", layer) for i, layer in layers)


def _has(module: nn.Module, path: str) -> bool:
    return path in {name for name, _ in module.named_modules()}
