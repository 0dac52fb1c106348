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

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Tokens (B, N, C) to (B, N, C). The last two arguments are timm's and must keep their defaults."""
        qkv = self.qkv(x)
        if not any(self.widths):
            return self.proj(qkv)  # (B, N, 0): only the bias is left
        if len(set(self.widths)) == 1:
            return self.proj(self._attend(qkv, len(self.widths)))
        # The last column, zero, fills short heads of a bucket up to its width.
        parts = F.pad(qkv, (0, 1))[..., self.columns].split([3 * n * width for n, width in self.buckets], -1)
        heads = [self._attend(part, n) for part, (n, _) in zip(parts, self.buckets, strict=True)]
        return self.proj(torch.cat(heads, -1)[..., self.order])

    def _attend(self, qkv: Tensor, heads: int) -> Tensor:
        """(B, N, 3 * heads * width) to (B, N, heads * width)."""
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2)

    def groups(self) -> list[Group]:
        """One group: the dims of all heads. q, k, v and the input of `proj` share them."""
        size = sum(self.widths)
        rows = (0, size, 2 * size)
        slices = [Slice("qkv.weight", 0, rows, gated=True), Slice("proj.weight", 1)]
        if self.qkv.bias is not None:
            slices.append(Slice("qkv.bias", 0, rows, gated=True))
        return [Group("", "attention", size, tuple(slices), owner="")]

    def keep(self, units: tuple[int, ...]) -> None:
        """Told by surgery which units of the group stay: works out what is left of each head."""
        kept = torch.zeros(sum(self.widths), dtype=torch.long)
        kept[list(units)] = 1
        self.widths = [int(head.sum()) for head in kept.split(self.widths)]
        self._lay_out()

    def _lay_out(self) -> None:
        """Sorts live heads into buckets; `columns` gathers their q, k, v, `order` puts their outputs back."""
        total, by_width = sum(self.widths), {}
        starts = [sum(self.widths[:h]) for h in range(len(self.widths))]
        for head, width in enumerate(self.widths):
            if width:
                by_width.setdefault(-(-width // self.BUCKET) * self.BUCKET, []).append(head)
        self.buckets = [(len(heads), width) for width, heads in sorted(by_width.items())]
        columns, order, offset = [], [0] * total, 0
        for width, heads in sorted(by_width.items()):
            for part in range(3):
                for head in heads:
                    live, start = self.widths[head], part * total + starts[head]
                    columns += [*range(start, start + live), *[3 * total] * (width - live)]
            for head in heads:
                order[starts[head] : starts[head] + self.widths[head]] = range(offset, offset + self.widths[head])
                offset += width
        device = "cpu" if self.qkv.weight.is_meta else self.qkv.weight.device
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long, device=device), persistent=False)
        self.register_buffer("order", torch.tensor(order, dtype=torch.long, device=device), persistent=False)
