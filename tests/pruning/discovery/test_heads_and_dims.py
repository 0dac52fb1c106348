"""Units of found attentions: whole heads, or the same dim of all heads, and what a cut of dims does to the logits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import Found, Group, Pruner, find_groups
from pruning.criteria import Random

TOKENS = (2, 7, 5)


class Attends(nn.Module):
    """An attention between two layers, with fewer heads of keys and values if `shared` > 1.

    Args:
        attend: makes the result (B, heads, N, head_dim) of queries, keys and values with equally many heads.
        heads, shared: number of heads of the queries, and how many of them share a key and a value.
        norm: whether queries and keys are normalized.
    """

    def __init__(self, attend: Callable, heads: int = 2, shared: int = 1, norm: bool = False):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.scale, self.attend = heads, heads // shared, 6, 6**-0.5, attend
        self.up, self.q, self.down = nn.Linear(5, 8), nn.Linear(8, 6 * heads), nn.Linear(6 * heads, 3)
        self.k, self.v = nn.Linear(8, 6 * self.kv_heads), nn.Linear(8, 6 * self.kv_heads)
        self.q_norm, self.k_norm = (nn.LayerNorm(6), nn.RMSNorm(6)) if norm else (nn.Identity(), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        b, n, _ = x.shape
        q = self.q_norm(self.q(x).view(b, n, self.heads, self.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k(x).view(b, n, self.kv_heads, self.head_dim)).transpose(1, 2)
        v = self.v(x).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        return self.down(self.attend(self, q, k, v).transpose(1, 2).flatten(2))


def fused(_: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def by_attribute(net: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * net.scale).softmax(-1) @ v


def by_shape(_: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v


def queries_are_used_twice(_: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v) + q


class Packed(nn.Module):
    """One projection for queries, keys and values, with a bias of zeros for the keys, in heads of a given size."""

    def __init__(self, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim, width = heads, head_dim, 12
        self.up, self.qkv, self.down = nn.Linear(5, width), nn.Linear(width, 36, bias=False), nn.Linear(width, 3)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.register_buffer("k_bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        b, n, _ = x.shape
        x = F.linear(x, self.qkv.weight, torch.cat((self.q_bias, self.k_bias, self.v_bias)))
        q, k, v = x.reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        return self.down(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class OfTorch(nn.Module):
    """An attention of torch in a stream."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.up, self.attention, self.down = nn.Linear(5, 12), attention, nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if isinstance(self.attention, nn.MultiheadAttention):
            return self.down(x + self.attention(x, x, x)[0])
        return self.down(self.attention(x))


def layer(heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(12, heads, 8, batch_first=True)


# Network, units of the attention, and the tensors with rescaled entries.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, set[str]]] = {
    "four heads": (lambda: Attends(fused, 4), 4, set()),
    "two heads": (lambda: Attends(fused), 6, {"q.weight", "q.bias"}),
    "scale from an attribute": (lambda: Attends(by_attribute), 6, set()),
    "scale from a shape": (lambda: Attends(by_shape), 2, set()),
    "four shared keys": (lambda: Attends(fused, 8, 2), 4, set()),
    "two shared keys": (lambda: Attends(fused, 8, 4), 6, {"q.weight", "q.bias"}),
    "one shared key": (lambda: Attends(fused, 4, 4), 6, {"q.weight", "q.bias"}),
    "two shared keys, scale from a shape": (lambda: Attends(by_shape, 8, 4), 2, set()),
    "norms of queries and keys": (lambda: Attends(fused, norm=True), 6, {"q_norm.weight", "q_norm.bias"}),
    "queries that are used twice": (lambda: Attends(queries_are_used_twice), 6, {"k.weight", "k.bias"}),
    "a bias in a buffer, dims": (lambda: Packed(2, -1), 6, {"qkv.weight", "q_bias"}),
    "a bias in a buffer, heads": (lambda: Packed(4, -1), 4, set()),
    "a number of dims in the code": (lambda: Packed(2, ConstantSix()), 2, set()),
    "torch, one head": (
        lambda: OfTorch(nn.MultiheadAttention(12, 1, batch_first=True)),
        12,
        {"attention.in_proj_weight", "attention.in_proj_bias"},
    ),
    "torch, two heads": (
        lambda: OfTorch(nn.MultiheadAttention(12, 2, batch_first=True, add_bias_kv=True)),
        6,
        {"attention.in_proj_weight", "attention.in_proj_bias"},
    ),
    "torch's layer, two heads": (
        lambda: OfTorch(layer(2)),
        6,
        {"attention.self_attn.in_proj_weight", "attention.self_attn.in_proj_bias"},
    ),
    "torch's layer, four heads": (lambda: OfTorch(layer(4)), 4, set()),
}


class ConstantSix:
    """Stands for a number in the code: no attribute of type int holds it."""

    def __index__(self) -> int:
        return 6


def found_in(network: nn.Module) -> Found:
    return find_groups(network, lambda _: {"x": torch.randn(*TOKENS, dtype=torch.float64)})


@pytest.mark.parametrize("name", NETWORKS)
def test_heads_or_dims_are_found_and_the_cut_computes_what_the_masked_network_does(name: str) -> None:
    torch.manual_seed(0)
    build, units, rescaled = NETWORKS[name]
    network = build().double().eval()
    for parameter in network.parameters():  # logits that are far from equal
        nn.init.normal_(parameter, std=0.7)
    found = found_in(network)
    group = next(g for g in found.groups if g.kind == "attention")
    assert (group.size, {s.path for s in group.slices if s.rescaled}) == (units, rescaled)
    assert found.share > 0.95
    x = torch.randn(*TOKENS, dtype=torch.float64)
    pruner = Pruner(ratio=0.5, criterion=Random(), ratio_of="units", scope={"default": "layer"})
    pruner.attach(network, found.groups, lambda _: {"x": x})
    pruner.update()
    assert pruner.finish([{"x": x}])["masked_vs_compacted"] < 1e-12
    assert pruner.kept_counts()[group.name] < units


def test_only_the_queries_rows_of_a_common_projection_are_rescaled() -> None:
    group = attention_of(Packed(2, -1).double().eval())
    rows = {s.offsets for s in group.slices if s.path == "qkv.weight" and s.dim == 0 and s.rescaled}
    assert rows == {(0, 6)}
    assert {s.path for s in group.slices if s.masked} == {"k_bias"}


def attention_of(network: nn.Module) -> Group:
    return next(g for g in found_in(network).groups if g.kind == "attention")


class Windows(nn.Module):
    """Windows of a map whose height is the product of two neighbouring sizes of a reshape."""

    def __init__(self):
        super().__init__()
        self.size, self.first, self.last = 4, nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = (x := self.first(x)).shape
        x = x.view(b, h // self.size, self.size, w // self.size, self.size, c)
        return self.last(x.amax((2, 4)).reshape(b, -1, c))


def test_the_height_of_a_map_that_is_cut_into_windows_is_no_number_of_dims() -> None:
    torch.manual_seed(0)
    found = find_groups(Windows().eval(), lambda _: {"x": torch.randn(2, 8, 8, 5)})
    assert [g.size for g in found.groups] == [8]
