"""Networks with one kind of coupling each: the found groups, and that the masked network equals the cut one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning import Pruner, find_groups
from pruning.criteria.random import Random
from pruning.errors import PruningError


class Network(nn.Module):
    """A network of a function and of layers.

    Args:
        function: maps the network and its input to its output.
        layers: layers by name.
    """

    def __init__(self, function, **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def head(inputs: int) -> nn.Linear:
    return nn.Linear(inputs, 3)


def pooled(n: Network, x):
    return n.head(x.mean((2, 3)))


def squeeze_and_excite(n: Network, x):
    x = n.a(x)
    return pooled(n, x * n.up(n.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid())


def shuffled(n: Network, x):
    b, c, h, w = (x := n.a(x)).shape
    x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
    return pooled(n, n.b(x).relu())


def halves(n: Network, x):
    first, second = n.a(x).chunk(2, 1)
    return pooled(n, first * second.sigmoid())


def joined(n: Network, x):
    x = n.a(x).relu()
    return pooled(n, n.c(torch.cat([x, n.b(x)], 1)))


def sliced(n: Network, x):
    x = n.a(x)
    return pooled(n, n.b(x[:, : n.kept]) + n.c(x[:, n.kept :]))


def sliced_network() -> Network:
    network = Network(sliced, a=conv(3, 10), b=conv(6, 4), c=conv(4, 4), head=head(4))
    network.kept = 6
    return network


def tied(n: Network, x):
    return n.head(F.linear(torch.tanh(F.linear(x, n.a.weight)), n.a.weight.T).relu())


def mapped(n: Network, x):
    return n.head(F.pixel_shuffle(n.a(x), 2).flatten(1))


def correlated(n: Network, x):
    x = n.a(x)
    kernel = x[:1].mean((2, 3)).view(-1, 1, 1, 1)
    return pooled(n, F.conv2d(x, kernel, groups=x.shape[1]))


def attended(n: Network, x):
    return n.head(n.attn(x, x, x, need_weights=False)[0])


def grouped_queries(n: Network, x):
    b, length, _ = x.shape
    q = n.q(x).view(b, length, n.heads, 4).transpose(1, 2)
    k, v = (p(x).view(b, length, n.shared, 4).transpose(1, 2) for p in (n.k, n.v))
    k, v = (t.repeat_interleave(n.heads // n.shared, 1) for t in (k, v))
    return n.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def grouped_queries_network() -> Network:
    layers = {"q": nn.Linear(6, 16), "k": nn.Linear(6, 8), "v": nn.Linear(6, 8), "head": head(16)}
    network = Network(grouped_queries, **layers)
    network.heads, network.shared = 4, 2
    return network


MAPS, TOKENS = (3, 6, 6), (5, 6)
NETWORKS = {
    "batch norm": (
        Network(lambda n, x: pooled(n, n.norm(n.a(x)).relu()), a=conv(3, 8), norm=nn.BatchNorm2d(8), head=head(8)),
        MAPS,
        [8],
    ),
    "sigmoid": (Network(lambda n, x: pooled(n, n.a(x).sigmoid()), a=conv(3, 8), head=head(8)), MAPS, [8]),
    "group norm": (
        Network(lambda n, x: pooled(n, n.norm(n.a(x))), a=conv(3, 8), norm=nn.GroupNorm(4, 8), head=head(8)),
        MAPS,
        [4],
    ),
    "one group": (
        Network(lambda n, x: pooled(n, n.norm(n.a(x))), a=conv(3, 8), norm=nn.GroupNorm(1, 8), head=head(8)),
        MAPS,
        [8],
    ),
    "instance norm": (
        Network(
            lambda n, x: pooled(n, n.norm(n.a(x)).relu()),
            a=conv(3, 8),
            norm=nn.InstanceNorm2d(8, affine=True),
            head=head(8),
        ),
        MAPS,
        [8],
    ),
    "rms norm": (
        Network(lambda n, x: n.head(n.norm(n.a(x))), a=nn.Linear(6, 8), norm=nn.RMSNorm(8), head=head(8)),
        TOKENS,
        [8],
    ),
    "depthwise": (
        Network(lambda n, x: pooled(n, n.b(n.a(x).relu())), a=conv(3, 8), b=conv(8, 8, groups=8), head=head(8)),
        MAPS,
        [8],
    ),
    "few wide groups": (
        Network(lambda n, x: pooled(n, n.b(n.a(x).relu())), a=conv(3, 8), b=conv(8, 12, groups=2), head=head(12)),
        MAPS,
        [4, 6],
    ),
    "many narrow groups": (
        Network(lambda n, x: pooled(n, n.b(n.a(x).relu())), a=conv(3, 8), b=conv(8, 16, groups=4), head=head(16)),
        MAPS,
        [4],
    ),
    "transposed": (
        Network(
            lambda n, x: pooled(n, n.b(n.a(x).relu()).relu()),
            a=conv(3, 8),
            b=nn.ConvTranspose2d(8, 6, 2, stride=2),
            head=head(6),
        ),
        MAPS,
        [6, 8],
    ),
    "squeeze and excite": (
        Network(squeeze_and_excite, a=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), head=head(8)),
        MAPS,
        [4, 8],
    ),
    "shuffle": (Network(shuffled, a=conv(3, 8), b=conv(8, 8, groups=8), head=head(8)), MAPS, None),
    "halves": (Network(halves, a=conv(3, 8), head=head(4)), MAPS, [4]),
    "concatenation": (Network(joined, a=conv(3, 8), b=conv(8, 4), c=conv(12, 6), head=head(6)), MAPS, [4, 6, 8]),
    "slices": (sliced_network(), MAPS, [4, 4, 6]),
    "prelu": (Network(lambda n, x: pooled(n, n.act(n.a(x))), a=conv(3, 8), act=nn.PReLU(8), head=head(8)), MAPS, [8]),
    "one layer twice": (
        Network(lambda n, x: n.head(n.b(n.b(n.a(x)).relu())), a=nn.Linear(6, 8), b=nn.Linear(8, 8), head=head(8)),
        TOKENS,
        [8],
    ),
    "tied weights": (Network(tied, a=nn.Linear(6, 8, bias=False), head=head(6)), TOKENS, [8]),
    "pixel shuffle": (Network(mapped, a=conv(3, 8), head=head(2 * 144)), MAPS, [2]),
    "kernel of activations": (Network(correlated, a=conv(3, 8), head=head(8)), MAPS, [8]),
    "flattened": (Network(lambda n, x: n.head(n.a(x).relu().flatten(1)), a=conv(3, 8), head=head(8 * 36)), MAPS, [8]),
    "interpolation": (
        Network(
            lambda n, x: pooled(n, F.interpolate(n.a(x), scale_factor=2.0, mode="bilinear")), a=conv(3, 8), head=head(8)
        ),
        MAPS,
        [8],
    ),
    "torch's attention": (
        Network(attended, attn=nn.MultiheadAttention(6, 3, batch_first=True), head=head(6)),
        TOKENS,
        None,
    ),
    "grouped queries": (grouped_queries_network(), TOKENS, None),
    "cosine": (Network(lambda n, x: n.head(F.normalize(n.a(x), dim=-1)), a=nn.Linear(6, 8), head=head(8)), TOKENS, [8]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_found_groups_can_be_cut(name):
    network, shape, sizes = NETWORKS[name]
    torch.manual_seed(0)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, *shape)
    found = find_groups(network.eval(), lambda _: {"x": x})
    if sizes is not None:
        assert sorted(g.size for g in found.groups) == sizes, [str(w) for w in found.whole]
    pruner = Pruner(ratio=0.7, criterion=Random(), ratio_of="units")
    pruner.attach(network, found.groups, lambda _: {"x": x})
    pruner.update()
    before = sum(p.numel() for p in network.parameters())
    assert pruner.finish([{"x": x}])["masked_vs_compacted"] < 1e-5
    assert sum(p.numel() for p in network.parameters()) < before


def recurrent(n: Network, x):
    return n.head(n.rnn(x)[0])


@pytest.mark.parametrize(
    ("network", "shape", "operator"),
    [
        (Network(recurrent, rnn=nn.LSTM(6, 8, batch_first=True), head=head(8)), TOKENS, "LSTM"),
        (Network(lambda n, x: n.head(n.a(x).softmax(-1)), a=nn.Linear(6, 8), head=head(8)), TOKENS, "softmax"),
        (Network(lambda n, x: n.head(n.a(x).sort(-1)[0]), a=nn.Linear(6, 8), head=head(8)), TOKENS, "sort"),
        (Network(lambda n, x: n.head(n.a(x)[..., [0, 2, 4]]), a=nn.Linear(6, 8), head=head(3)), TOKENS, "index"),
        (Network(lambda n, x: n.a(x), a=nn.Linear(6, 8)), TOKENS, "returns"),
    ],
)
def test_operators_that_stop_units_are_named(network, shape, operator):
    x = torch.randn(2, *shape)
    found = find_groups(network.eval(), lambda _: {"x": x})
    assert found.groups == []
    assert any(operator in whole.reason for whole in found.whole), found.whole
    with pytest.raises(PruningError):
        Pruner(ratio=0.7, criterion=Random()).attach(network, found.groups, lambda _: {"x": x})
