"""Found groups of small networks: what is found, what is left whole, and that found groups can be cut."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning import Found, Pruner, find_groups
from pruning.criteria.magnitude import Magnitude


def found_in(network: nn.Module, *shape: int) -> Found:
    torch.manual_seed(0)
    return find_groups(network.eval(), lambda _: {"x": torch.randn(2, *shape)})


def prune(network: nn.Module, found: Found, *shape: int, ratio: float = 0.6) -> float:
    """Prunes by the found groups and returns the difference between the masked and the cut network."""
    pruner = Pruner(ratio=ratio, criterion=Magnitude())
    inputs = {"x": torch.randn(2, *shape)}
    pruner.attach(network, found.groups, lambda _: inputs)
    pruner.update()
    return pruner.finish([inputs])["masked_vs_compacted"]


class Attention(nn.Module):
    """Attention of any size with one projection for queries, keys and values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(b, n, self.heads * self.head_dim))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.fc1, self.fc2 = Attention(dim, heads), nn.Linear(dim, 24), nn.Linear(24, dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def transformer() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), Block(16, 4), Block(16, 4), nn.LayerNorm(16), nn.Linear(16, 3))


def forward_of_sequential(network: nn.Module) -> nn.Module:
    """Returns a network whose argument is called x."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = network

        def forward(self, x):
            return self.parts(x)

    return Named()


def test_heads_hidden_units_and_the_width_of_a_transformer_are_found():
    found = found_in(network := forward_of_sequential(transformer()), 7, 5)
    assert {g.name: (g.kind, g.size) for g in found.groups} == {
        "parts.0": ("width", 16),
        "parts.1.attn.qkv": ("attention", 4),
        "parts.1.fc1": ("mlp", 24),
        "parts.2.attn.qkv": ("attention", 4),
        "parts.2.fc1": ("mlp", 24),
    }
    attention = next(g for g in found.groups if g.name == "parts.1.attn.qkv")
    assert dict(attention.attributes) == {"parts.1.attn.heads": 1}
    assert found.share > 0.9
    assert prune(network, found, 7, 5) < 1e-5
    assert network(torch.randn(2, 7, 5)).shape == (2, 7, 3)


class WidthFromShape(Attention):
    """Attention that takes the width of its heads, and that of its result, from the shape of its input."""

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


def test_heads_are_cut_with_the_width_that_the_code_reads_from_a_shape():
    layers = nn.Sequential(nn.Linear(5, 16), WidthFromShape(16, 4), nn.LayerNorm(16), nn.Linear(16, 3))
    found = found_in(network := forward_of_sequential(layers), 7, 5)
    assert [(g.size, dict(g.attributes)) for g in found.groups] == [(4, {"parts.1.heads": 1}), (16, {})]
    assert prune(network, found, 7, 5) < 1e-5


class Latent(nn.Module):
    """Attention pooling with one learned query."""

    def __init__(self):
        super().__init__()
        self.latent, self.q, self.kv = nn.Parameter(torch.randn(1, 1, 12)), nn.Linear(12, 8), nn.Linear(5, 16)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        q, (k, v) = self.q(self.latent), self.kv(x).chunk(2, -1)
        return self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)


def test_of_two_weights_that_are_multiplied_with_each_other_one_has_the_gate():
    found = found_in(network := Latent(), 7, 5)
    group = next(g for g in found.groups if g.size == 12)
    assert [s.path for s in group.slices if s.gated] == ["q.weight"]
    assert prune(network, found, 7, 5, ratio=0.9) < 1e-5


def conv(*arguments, **options) -> nn.Module:
    return nn.Sequential(nn.Conv2d(*arguments, **options), nn.BatchNorm2d(arguments[1]), nn.ReLU())


class Dense(nn.Module):
    """A concatenation, an addition, a depthwise convolution, and a flattened map."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 8, 3, padding=1), conv(8, 6, 3, padding=1), conv(14, 8, 1)
        self.deep, self.head = conv(8, 8, 3, padding=1, groups=8), nn.Linear(8 * 16, 4)

    def forward(self, x):
        a = self.a(x)
        c = self.c(torch.cat([a, self.b(a)], 1)) + a
        return self.head(self.deep(c).flatten(1))


def test_channels_of_a_convolutional_network_are_found():
    found = found_in(network := Dense(), 3, 4, 4)
    assert {g.name: g.size for g in found.groups} == {"a.0": 8, "b.0": 6}
    stream = next(g for g in found.groups if g.name == "a.0")
    assert {
        (s.path, s.dim): (s.offsets, s.inner) for s in stream.slices if s.path in ("c.0.weight", "head.weight")
    } == {
        ("c.0.weight", 0): ((0,), 1),
        ("c.0.weight", 1): ((0,), 1),
        ("head.weight", 1): ((0,), 16),
    }
    assert dict(stream.attributes) == {"deep.0.groups": 1}
    assert prune(network, found, 3, 4, 4) < 1e-5


class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.second(self.first(x).cumsum(-1))


class Number(nn.Module):
    """A network whose code contains the number of channels."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(16, 2)

    def forward(self, x):
        return self.second(self.first(x).view(-1, 16))


@pytest.mark.parametrize(("network", "shape", "reason"), [(Sums(), (4,), "cumsum"), (Number(), (3, 4, 4), "")])
def test_what_cannot_be_cut_is_left_whole_with_a_reason(network, shape, reason):
    found = found_in(network, *shape)
    assert found.groups == []
    assert found.share == 0
    (whole,) = [w for w in found.whole if "first.weight, dim 0" in w.tensors]
    assert reason in whole.reason


def test_groups_are_found_while_new_tensors_are_meta():
    network = Dense().eval()
    with torch.device("meta"):
        found = find_groups(network, lambda _: {"x": torch.randn(2, 3, 4, 4, device="cpu")})
    assert [g.size for g in found.groups] == [8, 6]
