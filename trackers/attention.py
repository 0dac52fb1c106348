"""Multi-head attention whose heads may have different widths: what pruning dimensions head by head leaves behind."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.groups import Group, Slice


class Attention(nn.Module):
    """timm's attention (same names of arguments and parameters) with heads of any width.

    Rows of `qkv` are [q | k | v], head after head; head h has `widths[h]` of each. All heads keep the softmax scale of
    the unpruned width. Heads run in fused kernels, one call for all heads of about the same width.
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
        self._cache: tuple | None = None

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Tokens (B, N, C) to (B, N, C). The last two arguments are timm's and must keep their defaults."""
        return self._run(x, None)[0]

    def with_scores(self, x: Tensor, query: int) -> tuple[Tensor, Tensor]:
        """Also how much attention token `query` pays to each token, summed over the heads: (B, N).

        It costs one row of the attention map more, and the kernel stays fused. Where no head is left, all zeros.
        """
        return self._run(x, query)

    def _run(self, x: Tensor, query: int | None) -> tuple[Tensor, Tensor | None]:
        if not any(self.widths):  # (B, N, 0) in between: only the bias is left
            return self.proj(self.qkv(x)), None if query is None else x.new_zeros(x.shape[:2])
        if len(set(self.widths)) == 1:
            attended, scores = self._attend(self.qkv(x), len(self.widths), query)
            return self.proj(attended), scores
        qkv_weight, qkv_bias, proj_weight = self._packed()
        parts = F.linear(x, qkv_weight, qkv_bias).split([3 * n * width for n, width in self.buckets], -1)
        heads, scores = zip(
            *(self._attend(part, n, query) for part, (n, _) in zip(parts, self.buckets, strict=True)), strict=True
        )
        out = F.linear(torch.cat(heads, -1), proj_weight, self.proj.bias)
        return out, None if query is None else torch.stack(scores).sum(0)

    def _attend(self, qkv: Tensor, heads: int, query: int | None) -> tuple[Tensor, Tensor | None]:
        """(B, N, 3 * heads * width) to (B, N, heads * width), and the scores (B, N) of `query`."""
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2)
        if query is None:
            return attended, None
        logits = self.scale * q[:, :, query : query + 1] @ k.transpose(-2, -1)
        return attended, logits.softmax(-1).sum((1, 2))

    def groups(self) -> list[Group]:
        """One group: the dims of all heads. q, k, v and the input of `proj` share them."""
        size = sum(self.widths)
        rows = (0, size, 2 * size)
        slices = [Slice("qkv.weight", 0, rows, gated=True), Slice("proj.weight", 1)]
        if self.qkv.bias is not None:
            slices.append(Slice("qkv.bias", 0, rows, gated=True))
        return [Group("", "attention", size, tuple(slices), owner="", vanish=())] if size else []

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
        self.padded = sum(n * width for n, width in self.buckets)
        rows, columns, offset = {}, {}, 0
        for width, heads in sorted(by_width.items()):
            for place, head in enumerate(heads):
                live = range(self.widths[head])
                columns[head] = [offset + place * width + i for i in live]
                for part in range(3):
                    rows[part, head] = [3 * offset + (part * len(heads) + place) * width + i for i in live]
            offset += len(heads) * width
        self._register("rows", [row for key in sorted(rows) for row in rows[key]])
        self._register("columns", [column for head in sorted(columns) for column in columns[head]])
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
