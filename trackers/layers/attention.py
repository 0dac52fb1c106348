"""Multi-head attention whose heads may have different widths: what pruning dimensions head by head leaves behind."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.groups import Group, Slice


class Attention(nn.Module):
    """timm's attention (same names of arguments and parameters) with heads of any width.

    Rows of `qkv` are [q | k | v], head after head (as in `nn.MultiheadAttention`); head h has `widths[h]` of each. All
    heads keep the softmax scale of the unpruned width. Heads run in fused kernels, one call for all of about the same
    width.
    """

    BUCKET = 8  # heads run together when their widths agree once rounded up to this: kernels like multiples of 8

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, proj_bias: bool = True, **rest: object):
        super().__init__()
        unsupported = {k: v for k, v in rest.items() if v and k not in ("norm_layer", "device", "dtype")}
        if unsupported:
            raise ValueError(f"this attention has no {unsupported}; choose a plain ViT backbone")
        if dim % num_heads:
            raise ValueError(f"dim={dim} is not a multiple of num_heads={num_heads}")
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)
        self.widths = [dim // num_heads] * num_heads
        self.buckets, self.live = [(num_heads, dim // num_heads)], list(range(num_heads))
        self._cache: tuple | None = None

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Tokens (B, N, C) to (B, N, C). The last two arguments are timm's and must keep their defaults."""
        return self.attend(x, x, x)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, dropout: float = 0.0
    ) -> Tensor:
        """Queries (B, Nq, C) to keys and values (B, Nk, C): (B, Nq, C).

        Args:
            query, key, value: tokens.
            bias: added to the logits, broadcasting to (B, heads, Nq, Nk); or bool, False where nothing may be attended.
            dropout: of the attention map.
        """
        if not any(self.widths):
            return self._only_bias(query)
        heads, project = self._heads(query, key, value)
        biases = [bias] * len(heads)
        if bias is not None and bias.shape[1] > 1 and self._counting:
            biases = [bias[:, :1]]
        elif bias is not None and bias.shape[1] > 1:
            biases = bias[:, self.live].split([n for n, _ in self.buckets], 1)
        return project(
            [
                F.scaled_dot_product_attention(q, k, v, b, dropout_p=dropout, scale=self.scale)
                for (q, k, v), b in zip(heads, biases, strict=True)
            ]
        )

    def with_scores(self, x: Tensor, query: int) -> tuple[Tensor, Tensor]:
        """Also how much attention token `query` pays to each token, summed over the heads: (B, N).

        It costs one row of the attention map more, and the kernel stays fused. Where no head is left, all zeros.
        """
        if not any(self.widths):
            return self._only_bias(x), x.new_zeros(x.shape[:2])
        heads, project = self._heads(x, x, x)
        rows = [(self.scale * q[:, :, query : query + 1] @ k.transpose(-2, -1)).softmax(-1) for q, k, _ in heads]
        out = project([F.scaled_dot_product_attention(q, k, v, scale=self.scale) for q, k, v in heads])
        return out, torch.cat(rows, 1).sum((1, 2))

    @property
    def _counting(self) -> bool:
        """Without numbers there is only arithmetic to be counted: as much in one head as in many that are as wide.

        Filling up ragged heads is left out, and so the count is a function of how many units there are.
        """
        return self.qkv.weight.is_meta

    def _only_bias(self, query: Tensor) -> Tensor:
        return self.proj(self.qkv(query))  # (B, N, 0) in between: only the bias is left

    def _heads(
        self, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Callable[[list[Tensor]], Tensor]]:
        """q, k and v of every bucket, each (B, heads, N, width), and what turns the buckets' results into tokens."""
        ragged = len(set(self.widths)) > 1 and not self._counting
        weight, bias, proj = self._packed() if ragged else (self.qkv.weight, self.qkv.bias, self.proj.weight)
        buckets = self.buckets if ragged else [(len(self.widths), self.widths[0])]
        if self._counting:
            buckets = [(1, sum(self.widths))]
        parts = [
            [x.unflatten(-1, (n, -1)).transpose(1, 2) for x, (n, _) in zip(split, buckets, strict=True)]
            for split in (
                x.split([n * width for n, width in buckets], -1) for x in _project(query, key, value, weight, bias)
            )
        ]

        def project(results: list[Tensor]) -> Tensor:
            return F.linear(torch.cat([r.transpose(1, 2).flatten(2) for r in results], -1), proj, self.proj.bias)

        return list(zip(*parts, strict=True)), project

    def groups(self) -> list[Group]:
        """One group: the dims of all heads. q, k, v and the input of `proj` share them."""
        size = sum(self.widths)
        rows = (0, size, 2 * size)
        slices = [Slice("qkv.weight", 0, rows, gated=True), Slice("proj.weight", 1)]
        if self.qkv.bias is not None:
            slices.append(Slice("qkv.bias", 0, rows, gated=True))
        if not size:
            return []
        return [Group("", "attention", size, tuple(slices), owner="", vanish=(), runs=tuple(self.widths))]

    def keep(self, units: tuple[int, ...]) -> None:
        """Told by surgery which units of the group stay: works out what is left of each head."""
        kept = torch.zeros(sum(self.widths), dtype=torch.long)
        kept[list(units)] = 1
        self.widths = [int(head.sum()) for head in kept.split(self.widths)]
        self._lay_out()

    def _lay_out(self) -> None:
        """Sorts live heads into buckets; `rows` and `columns` say where each weight goes in the packed layout."""
        by_width: dict[int, list[int]] = {}
        for head, width in enumerate(self.widths):
            if width:
                by_width.setdefault(-(-width // self.BUCKET) * self.BUCKET, []).append(head)
        self.buckets = [(len(heads), width) for width, heads in sorted(by_width.items())]
        self.live = [head for _, heads in sorted(by_width.items()) for head in heads]
        self.padded = sum(n * width for n, width in self.buckets)
        places = [width for n, width in self.buckets for _ in range(n)]
        start = dict(zip(self.live, [sum(places[:i]) for i in range(len(places))], strict=True))
        columns = [start[head] + i for head in sorted(start) for i in range(self.widths[head])]
        self._register("columns", columns)
        self._register("rows", [part * self.padded + column for part in range(3) for column in columns])
        self._cache = None

    def _register(self, name: str, positions: list[int]) -> None:
        device = "cpu" if self.qkv.weight.is_meta else self.qkv.weight.device
        self.register_buffer(name, torch.tensor(positions, dtype=torch.long, device=device), persistent=False)

    def _packed(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Weights of `qkv` and `proj` bucket by bucket, heads filled up with zeros; kept while nothing is trained.

        Zeros stay out of the parameters, so that what is counted, pruned and saved is what is there.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._pack()
        parameters = [p for p in (self.qkv.weight, self.qkv.bias, self.proj.weight) if p is not None]
        key = [(p.device, p.dtype, p.data_ptr(), p._version) for p in parameters]
        if self._cache is None or self._cache[0] != key:
            # The weights are held, too: memory that is freed could be given to others at the same address.
            self._cache = (key, self._pack(), [p.detach() for p in parameters])
        return self._cache[1]

    def train(self, mode: bool = True) -> "Attention":
        """Also forgets the packed weights: `p.data.mul_(...)` changes weights without leaving a trace."""
        self._cache = None
        return super().train(mode)

    def _pack(self) -> tuple[Tensor, Tensor | None, Tensor]:
        weight, bias, proj = self.qkv.weight, self.qkv.bias, self.proj.weight
        return (
            weight.new_zeros(3 * self.padded, weight.shape[1]).index_copy(0, self.rows, weight),
            None if bias is None else bias.new_zeros(3 * self.padded).index_copy(0, self.rows, bias),
            proj.new_zeros(proj.shape[0], self.padded).index_copy(1, self.columns, proj),
        )


def _project(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """The three projections, those of one and the same input in one product."""
    third = len(weight) // 3

    def linear(x: Tensor, first: int, last: int) -> Tensor:
        rows = slice(first * third, last * third)
        return F.linear(x, weight[rows], None if bias is None else bias[rows])

    if query is key is value:
        return linear(query, 0, 3).chunk(3, -1)
    if query is key:
        return *linear(query, 0, 2).chunk(2, -1), linear(value, 2, 3)
    return linear(query, 0, 1), linear(key, 1, 2), linear(value, 2, 3)


class SingleQueryAttention(nn.Module):
    """Self-attention of one token: its softmax is over one key, so that neither queries nor keys matter.

    Args:
        dim: of the token.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.value, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, C) to (B, 1, C)."""
        return self.proj(self.value(x))

    def groups(self) -> list[Group]:
        """The dims of all heads."""
        slices = (Slice("value.weight", 0, gated=True), Slice("value.bias", 0, gated=True), Slice("proj.weight", 1))
        size = self.value.out_features
        return [Group("", "attention", size, slices, vanish=())] if size else []


@torch.no_grad()
def start_by_matching(attention: Attention) -> None:
    """W_q = W_k, so that logits start as similarity of content; W_v and W_proj near a scaled identity."""
    dim = attention.proj.in_features
    query = torch.randn(dim, dim) * dim**-0.5
    near_identity = [0.5 * torch.eye(dim) + 0.02 * torch.randn(dim, dim) for _ in range(2)]
    attention.qkv.weight.copy_(torch.cat([query, query, near_identity[0]]))
    attention.proj.weight.copy_(near_identity[1])
