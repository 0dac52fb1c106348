"""Multi-head attention whose heads may have different widths, which pruning of single dimensions causes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.groups import Group, Slice
from trackers.errors import TrackerError


class Attention(nn.Module):
    """timm's attention (same names of arguments and parameters) with heads of any width.

    Rows of `qkv` are [q | k | v], head after head, as in `nn.MultiheadAttention`; head h has `widths[h]` rows of each.
    All heads keep the softmax scale of the unpruned width. Heads of similar width share one call of a fused kernel.

    Args:
        dim: channels of the tokens.
        num_heads: number of heads, a divisor of `dim`.
        qkv_bias, proj_bias: whether the projections have biases.
        rotary: whether the forward rotates queries and keys by rotary position embeddings. Neighbouring dims of a head
            rotate as a pair, so a unit of pruning is a pair: one dim alone cannot be rotated.
        rest: further arguments that timm passes to an `attn_layer`; only those that change nothing are allowed.
    """

    # Heads whose widths round up to the same multiple of 8 run in one call. Kernels are fast at multiples of 8.
    BUCKET = 8
    rows: Tensor
    columns: Tensor
    pairs: Tensor | None  # rotating pair of every two dims of the layout of `_heads`; None while all heads are whole

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        rotary: bool = False,
        **rest: object,
    ):
        super().__init__()
        unsupported = {k: v for k, v in rest.items() if v and k not in ("norm_layer", "device", "dtype")}
        if unsupported:
            raise TrackerError(
                f"Attention does not support {unsupported}; choose a plain ViT, e.g. vit_base_patch16_224"
            )
        if num_heads < 1 or dim % num_heads:
            raise TrackerError(f"dim={dim} is not a multiple of num_heads={num_heads}")
        if rotary and dim // num_heads % 2:
            raise TrackerError(
                f"rotary position embeddings rotate pairs of dims, but dim={dim} and num_heads={num_heads} make heads "
                f"of {dim // num_heads} dims; try num_heads={num_heads} and dim={num_heads * (dim // num_heads + 1)}"
            )
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)
        self.widths = [dim // num_heads] * num_heads
        self.unit = 2 if rotary else 1
        self.kept_pairs = [list(range(dim // num_heads // 2)) for _ in range(num_heads)] if rotary else []
        self.register_buffer("pairs", None, persistent=False)
        self.buckets, self.live = [(num_heads, dim // num_heads)], list(range(num_heads))
        self._cache: tuple | None = None

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        """Maps tokens (B, N, C) to (B, N, C).

        Args:
            x: the tokens.
            rotary: cosines and sines of the angles of all pairs of a head, (1 or B, N, 2 * pairs); None for none.
        """
        return self.attend(x, x, x, rotary=rotary)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        dropout: float = 0.0,
        rotary: Tensor | None = None,
    ) -> Tensor:
        """Returns attention (B, Nq, C) of queries (B, Nq, C) to keys and values (B, Nk, C).

        Args:
            query, key, value: tokens before projection.
            bias: float added to the logits, or bool that is False for pairs without attention; broadcast to
                (B, heads, Nq, Nk).
            dropout: dropout probability of the attention map.
            rotary: see `forward`.
        """
        if not any(self.widths):
            return self._only_bias(query)
        heads, project = self._heads(query, key, value, rotary)
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

    def with_scores(self, x: Tensor, query: int, rotary: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns self-attention (B, N, C), and the attention of one token to each token, summed over heads, (B, N).

        Only one extra row of the attention map is computed, so the kernel stays fused. If all heads are pruned, the
        scores are zero.

        Args:
            x: tokens (B, N, C).
            query: index of the token.
            rotary: see `forward`.
        """
        if not any(self.widths):
            return self._only_bias(x), x.new_zeros(x.shape[:2])
        heads, project = self._heads(x, x, x, rotary)
        rows = [(self.scale * q[:, :, query : query + 1] @ k.transpose(-2, -1)).softmax(-1) for q, k, _ in heads]
        out = project([F.scaled_dot_product_attention(q, k, v, scale=self.scale) for q, k, v in heads])
        return out, torch.cat(rows, 1).sum((1, 2))

    @property
    def _counting(self) -> bool:
        """Whether the weights are on the meta device, where only MACs are counted.

        All heads then run as one, without padding of ragged heads, so that MACs depend on the number of units alone.
        """
        return self.qkv.weight.is_meta

    def _only_bias(self, query: Tensor) -> Tensor:
        """Returns the output if all heads are pruned: the bias of `proj` at every token, (B, N, C)."""
        return self.proj(self.qkv(query))

    def _heads(
        self, query: Tensor, key: Tensor, value: Tensor, rotary: Tensor | None
    ) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Callable[[list[Tensor]], Tensor]]:
        """Returns q, k and v of every bucket, (B, heads, N, width), and a function from buckets' results to tokens."""
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
        if rotary is not None:
            angles = self._angles(rotary, buckets)
            for part in parts[:2]:
                part[:] = [_rotate(x, *of_bucket) for x, of_bucket in zip(part, angles, strict=True)]

        def project(results: list[Tensor]) -> Tensor:
            return F.linear(torch.cat([r.transpose(1, 2).flatten(2) for r in results], -1), proj, self.proj.bias)

        return list(zip(*parts, strict=True)), project

    def _angles(self, rotary: Tensor, buckets: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Returns cosines and sines of the angles of every bucket, (1 or B, 1 or heads, N, 1 or width / 2)."""
        if self._counting:
            rotary = rotary.unflatten(-1, (2, -1))[..., :1].flatten(-2)  # only shapes count: one pair stands for all
        elif self.pairs is not None:
            split = [n * width // 2 for n, width in buckets]
            tables = [t.index_select(-1, self.pairs).split(split, -1) for t in rotary.chunk(2, -1)]
            return [
                tuple(t.unflatten(-1, (n, -1)).transpose(1, 2) for t in of_bucket)
                for of_bucket, (n, _) in zip(zip(*tables, strict=True), buckets, strict=True)
            ]
        cosines, sines = rotary[:, None].chunk(2, -1)
        return [(cosines, sines)] * len(buckets)

    def groups(self) -> list[Group]:
        """Returns one group: the dims of all heads, or their pairs, which q, k, v and the input of `proj` share."""
        dims = sum(self.widths)
        rows = (0, dims, 2 * dims)
        slices = [Slice("qkv.weight", 0, rows, self.unit, gated=True), Slice("proj.weight", 1, inner=self.unit)]
        if self.qkv.bias is not None:
            slices.append(Slice("qkv.bias", 0, rows, self.unit, gated=True))
        if not dims:
            return []
        runs = tuple(width // self.unit for width in self.widths)
        return [Group("", "attention", dims // self.unit, tuple(slices), owner="", vanish=(), runs=runs)]

    def keep(self, units: tuple[int, ...]) -> None:
        """Updates the widths of the heads after surgery.

        Args:
            units: units of the group that are kept.
        """
        kept = torch.zeros(sum(self.widths) // self.unit, dtype=torch.long)
        kept[list(units)] = 1
        heads = kept.split([width // self.unit for width in self.widths])
        self.widths = [self.unit * int(head.sum()) for head in heads]
        if self.kept_pairs:
            self.kept_pairs = [
                [pair for pair, stays in zip(pairs, head.tolist(), strict=True) if stays]
                for pairs, head in zip(self.kept_pairs, heads, strict=True)
            ]
        self._lay_out()

    def _lay_out(self) -> None:
        """Sorts the remaining heads into buckets, and sets the positions of weights in the packed layout.

        `rows` are the positions of the rows of `qkv`, `columns` the positions of the input columns of `proj`. `pairs`
        are the rotating pairs of all heads, of which dims that fill a bucket take the first one.
        """
        by_width: dict[int, list[int]] = {}
        for head, width in enumerate(self.widths):
            if width:
                by_width.setdefault(-(-width // self.BUCKET) * self.BUCKET, []).append(head)
        self.buckets = [(len(heads), width) for width, heads in sorted(by_width.items())]
        self.live = [head for _, heads in sorted(by_width.items()) for head in heads]
        self.padded = sum(n * width for n, width in self.buckets)
        padded_widths = [width for n, width in self.buckets for _ in range(n)]
        start = dict(zip(self.live, [sum(padded_widths[:i]) for i in range(len(padded_widths))], strict=True))
        columns = [start[head] + i for head in sorted(start) for i in range(self.widths[head])]
        self._register("columns", columns)
        self._register("rows", [part * self.padded + column for part in range(3) for column in columns])
        if self.kept_pairs:
            ragged = len(set(self.widths)) > 1
            layout = zip(self.live, padded_widths, strict=True) if ragged else enumerate(self.widths)
            pairs = [(self.kept_pairs[head] + [0] * width)[: width // 2] for head, width in layout]
            self._register("pairs", [pair for head in pairs for pair in head])
        self._cache = None

    def _register(self, name: str, positions: list[int]) -> None:
        device = "cpu" if self.qkv.weight.is_meta else self.qkv.weight.device
        self.register_buffer(name, torch.tensor(positions, dtype=torch.long, device=device), persistent=False)

    def _packed(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the weights of `qkv` and `proj`, bucket by bucket, with heads padded by zeros.

        They are cached while no gradients are needed. The zeros are not part of the parameters, so they are not
        counted, pruned or saved.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self._pack()
        parameters = [p for p in (self.qkv.weight, self.qkv.bias, self.proj.weight) if p is not None]
        key = [(p.device, p.dtype, p.data_ptr(), p._version) for p in parameters]
        if self._cache is None or self._cache[0] != key:
            # The weights are kept alive: otherwise other tensors could be allocated at their addresses.
            self._cache = (key, self._pack(), [p.detach() for p in parameters])
        return self._cache[1]

    def train(self, mode: bool = True) -> "Attention":
        """Sets the mode and clears the cached weights: `p.data.mul_(...)` changes weights but not their version."""
        self._cache = None
        return super().train(mode)

    def _pack(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the weights of `_packed`, computed anew."""
        weight, bias, proj = self.qkv.weight, self.qkv.bias, self.proj.weight
        return (
            weight.new_zeros(3 * self.padded, weight.shape[1]).index_copy(0, self.rows, weight),
            None if bias is None else bias.new_zeros(3 * self.padded).index_copy(0, self.rows, bias),
            proj.new_zeros(proj.shape[0], self.padded).index_copy(1, self.columns, proj),
        )


def _project(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """Returns q, k and v. Projections of the same tensor are computed in one matrix product."""
    third = len(weight) // 3

    def linear(x: Tensor, first: int, last: int) -> Tensor:
        rows = slice(first * third, last * third)
        return F.linear(x, weight[rows], None if bias is None else bias[rows])

    if query is key is value:
        return linear(query, 0, 3).chunk(3, -1)
    if query is key:
        return *linear(query, 0, 2).chunk(2, -1), linear(value, 2, 3)
    return linear(query, 0, 1), linear(key, 1, 2), linear(value, 2, 3)


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotates neighbouring dims of x (B, heads, N, width) as pairs, each by the angle of its token and pair."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([a * cosines - b * sines, b * cosines + a * sines], -1)
    return rotated.flatten(-2).to(x.dtype)  # autocast may have made x less precise than the angles


class SingleQueryAttention(nn.Module):
    """Self-attention of a single token. A softmax over one key is 1, so the layer has no queries and keys.

    Args:
        dim: channels of the token.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.value, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (B, 1, C) to (B, 1, C)."""
        return self.proj(self.value(x))

    def groups(self) -> list[Group]:
        """Returns one group: the dims of all heads."""
        slices = (Slice("value.weight", 0, gated=True), Slice("value.bias", 0, gated=True), Slice("proj.weight", 1))
        size = self.value.out_features
        return [Group("", "attention", size, slices, vanish=())] if size else []


@torch.no_grad()
def initialise_for_matching(attention: Attention) -> None:
    """Initialises attention so that tokens attend to similar tokens: W_q = W_k; W_v and W_proj near 0.5 * identity."""
    dim = attention.proj.in_features
    query = torch.randn(dim, dim) * dim**-0.5
    near_identity = [0.5 * torch.eye(dim) + 0.02 * torch.randn(dim, dim) for _ in range(2)]
    attention.qkv.weight.copy_(torch.cat([query, query, near_identity[0]]))
    attention.proj.weight.copy_(near_identity[1])
