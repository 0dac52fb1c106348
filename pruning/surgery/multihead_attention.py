"""torch's multi-head attention with heads and widths of any number, which is what a cut leaves."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CutMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` that takes all widths from its tensors.

    `nn.MultiheadAttention` needs one width for its inputs and for all heads together. After a cut, both may differ,
    and so may the widths of queries and values. Without heads the output is the bias. Logits are divided by the root of
    the present width of a head. Surgery sets this class on an existing attention, whose tensors keep their names.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Does what `nn.MultiheadAttention` does.

        Args:
            query: (L, E), or with a batch (N, L, E) if `batch_first`, otherwise (L, N, E).
            key, value: the same with S positions and their own widths.
            key_padding_mask: (S,) or (N, S). True leaves a position out; numbers are added to logits.
            need_weights: whether the attention weights are returned as well.
            attn_mask: (L, S) or (N * heads, L, S), with the meaning of `key_padding_mask`.
            average_attn_weights: whether the weights are averaged over heads.
            is_causal: whether `attn_mask` is causal. The mask is applied in either case.

        Returns:
            The output in the shape of the query, and None or the weights: (N, L, S), or (N, heads, L, S) if they are
            not averaged, without N if there is no batch.

        Raises:
            RuntimeError: `is_causal` is given without a mask, as in `nn.MultiheadAttention`.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal=True needs attn_mask, e.g. nn.Transformer.generate_square_subsequent_mask(L)")
        is_batched = query.dim() == 3
        q, k, v = self._project(query, key, value)
        if not is_batched:
            q, k, v = q[None], k[None], v[None]
        elif not self.batch_first:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        mask = self._merged_mask(attn_mask, key_padding_mask, len(q), q.dtype)
        k, v, mask = self._extended(k, v, mask)
        heads = max(self.num_heads, 1)
        shapes = [(self.num_heads, x.shape[-1] // heads) for x in (q, k, v)]
        q, k, v = (x.unflatten(-1, n).transpose(1, 2) for x, n in zip((q, k, v), shapes, strict=True))
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            logits = (q * max(q.shape[-1], 1) ** -0.5) @ k.transpose(-2, -1)
            weights = F.dropout((logits if mask is None else logits + mask).softmax(-1), dropout)
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = F.linear(out.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        if not is_batched:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Returns queries, keys and values, each (..., width of all heads), with as few products as possible."""
        widths, bias = projection_widths(self), self.in_proj_bias
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            counts = [1, 1, 1]
        else:
            counts = [3] if query is key and key is value else [1, 2] if key is value else [1, 1, 1]
            weights = list(self.in_proj_weight.split(_sums(widths, counts)))
        biases = [None] * len(counts) if bias is None else bias.split(_sums(widths, counts))
        inputs = [query, key, value][: len(counts)]
        products = [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
        return [part for x, n in zip(products, counts, strict=True) for part in _split(x, n, widths)]

    def _merged_mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, batch: int, dtype: torch.dtype
    ) -> Tensor | None:
        """Returns both masks as one that is added to logits (N, heads, L, S), None without masks."""
        masks = []
        if attn_mask is not None:
            mask = _additive(attn_mask, dtype)
            masks.append(mask if mask.dim() == 2 else mask.unflatten(0, (batch, self.num_heads)))
        if padding is not None:
            masks.append(_additive(padding, dtype).view(batch, 1, 1, -1))
        return sum(masks[1:], masks[0]) if masks else None

    def _extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Appends the positions of `add_bias_kv` and `add_zero_attn` to keys and values (N, S, width) and the mask."""
        before = k.shape[1]
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), 1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), 1, -1)], 1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return k, v, None if mask is None else F.pad(mask, (0, k.shape[1] - before))


def projection_widths(attention: nn.MultiheadAttention) -> list[int]:
    """Returns the widths of queries, keys and values over all heads. Queries and keys have equal widths."""
    values = attention.out_proj.weight.shape[1]
    if attention.in_proj_weight is None:
        queries = attention.q_proj_weight.shape[0]
    else:
        queries = (attention.in_proj_weight.shape[0] - values) // 2
    return [queries, queries, values]


def allow_any_width(attention: nn.MultiheadAttention) -> None:
    """Makes an attention a `CutMultiheadAttention`, with the sizes of its tensors as attributes."""
    attention.__class__ = CutMultiheadAttention
    attention._qkv_same_embed_dim = False  # the encoder layers of torch then leave their fast path, of one width
    attention.head_dim = projection_widths(attention)[0] // max(attention.num_heads, 1)
    if attention.in_proj_weight is None:
        weights = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
        attention.embed_dim, attention.kdim, attention.vdim = (w.shape[1] for w in weights)
    else:
        attention.embed_dim = attention.kdim = attention.vdim = attention.in_proj_weight.shape[1]


def leave_nested_tensors(network: nn.Module) -> None:
    """Keeps the encoders of torch from nested tensors, which only attentions of one width take, and no meta device."""
    for encoder in (m for m in network.modules() if isinstance(m, nn.TransformerEncoder)):
        encoder.use_nested_tensor = False


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a mask that is added to logits: minus infinity where a mask of booleans is true."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
    return mask.to(dtype)


def _sums(widths: list[int], counts: list[int]) -> list[int]:
    """Returns the sums of the first counts[0] widths, the next counts[1] widths, and so on."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [sum(widths[start : start + n]) for start, n in zip(starts, counts, strict=True)]


def _split(x: Tensor, count: int, widths: list[int]) -> tuple[Tensor, ...]:
    """Returns the last `count` of queries, keys and values that x (..., width) holds; x itself if it holds one."""
    return (x,) if count == 1 else x.split(widths[-count:], -1)
