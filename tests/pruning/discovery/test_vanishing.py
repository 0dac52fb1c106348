"""Found groups that may lose all their units: residual branches, of which a constant remains."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import Found, Plan, compact, find_groups
from pruning.gates import Gates
from pruning.groups import Group, branches
from pruning.trial.comparison import difference
from tests.pruning.discovery.test_find_groups import WidthFromShape, forward_of_sequential, transformer
from tests.pruning.networks import shake

Branch = Callable[["Residual", Tensor], Tensor]


class Scale(nn.Module):
    """Squeeze and excitation: channels are scaled by what all of them are at all positions."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.expand = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Residual(nn.Module):
    """A stem, a block that `forward` computes, and a head. The block has 8 channels outside and 6 inside."""

    def __init__(self, forward: Branch, inplace: bool = False, inner_groups: int = 1):
        super().__init__()
        self.block = [forward]
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)
        self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU(inplace)
        self.conv1, self.bn1 = nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False, groups=inner_groups), nn.BatchNorm2d(6)
        self.conv3, self.bn3 = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8)
        self.scale, self.shortcut = Scale(), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block[0](self, F.relu(self.stem(x))).mean((2, 3)))


def inside(net: Residual, x: Tensor) -> Tensor:
    x = net.act(net.bn1(net.conv1(x)))
    return net.bn3(net.conv3(net.act(net.bn2(net.conv2(x)))))


def added(net: Residual, x: Tensor) -> Tensor:
    return x + inside(net, x)


def normed(net: Residual, x: Tensor) -> Tensor:
    return inside(net, net.norm(x)) + x


def twice(net: Residual, x: Tensor) -> Tensor:
    return added(net, F.relu(added(net, x)))


def projected(net: Residual, x: Tensor) -> Tensor:
    return net.shortcut(x) + inside(net, x)


def alone(net: Residual, x: Tensor) -> Tensor:
    return inside(net, x)


def multiplied(net: Residual, x: Tensor) -> Tensor:
    return x * inside(net, x)


def joined(net: Residual, x: Tensor) -> Tensor:
    return torch.cat([x, inside(net, x)], 1)[:, 4:12]


def overwriting(net: Residual, x: Tensor) -> Tensor:
    y = F.relu_(net.bn1(net.conv1(x)))
    return x + net.bn3(net.conv3(F.relu_(net.bn2(net.conv2(y)))))


def squeezed(net: Residual, x: Tensor) -> Tensor:
    return x + net.conv3(net.scale(net.act(net.bn1(net.conv1(x)))))


def found_in(network: nn.Module, x: Tensor) -> Found:
    return find_groups(network.eval(), lambda _: {"x": x})


def pictures() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def assert_branches_can_go(network: nn.Module, groups: list[Group], x: Tensor) -> nn.Module:
    """Compares a network that has lost its branches and half of all others with the masked one; returns it."""
    network, x = shake(network.double()).eval(), x.double()
    plan = Plan({g.name: tuple(range(g.size // 2 if g.vanish is None else 0)) for g in groups})
    cut, gates = compact(copy.deepcopy(network), groups, plan), Gates(network, groups)
    gates.close(plan)
    with torch.no_grad(), gates.folded():
        assert float(difference(network(x), cut(x))) < 1e-12
    before = cut(x).detach()
    cut.train()
    cut(x).square().sum().backward()  # no activation has overwritten what a gradient needs
    torch.optim.SGD(cut.parameters(), 0.1).step()
    assert float(difference(before, cut.eval()(x))) > 1e-6
    return cut


@pytest.mark.parametrize(("block", "inplace"), [(added, False), (added, True), (twice, False)])
def test_convolutions_of_a_residual_branch_vanish_together(block: Branch, inplace: bool) -> None:
    found = found_in(network := Residual(block, inplace), x := pictures())
    inner = {g.name: g.vanish for g in found.groups if g.vanish is not None}
    assert inner == {"conv1": ("conv1", "bn1"), "conv2": ("conv2", "bn2")}
    assert len(branches(found.groups)) == 1
    cut = assert_branches_can_go(network, found.groups, x)
    assert [g.name for g in found_in(cut, x.double()).groups] == ["stem"]


def test_a_depthwise_convolution_and_the_norm_in_front_vanish_with_the_branch() -> None:
    found = found_in(network := Residual(normed, inner_groups=6), x := pictures())
    (group,) = (g for g in found.groups if g.vanish is not None)
    assert (group.name, group.branch, set(group.vanish)) == ("conv1", None, {"norm", "conv1", "bn1", "conv2", "bn2"})
    assert_branches_can_go(network, found.groups, x)


def test_squeeze_and_excitation_vanishes_with_the_branch_around_it() -> None:
    found = found_in(network := Residual(squeezed), x := pictures())
    vanish = {g.name: g.vanish for g in found.groups if g.size != 8}
    assert vanish == {"conv1": ("conv1", "bn1", "scale"), "scale.squeeze": None}
    assert_branches_can_go(network, found.groups, x)


@pytest.mark.parametrize("block", [projected, alone, multiplied, joined, overwriting])
def test_what_is_no_constant_added_to_the_input_of_the_branch_keeps_a_unit(block: Branch) -> None:
    found = found_in(Residual(block), pictures())
    assert {g.vanish for g in found.groups} == {None}
    assert {"conv1", "conv2"} <= {g.name for g in found.groups}


def test_attention_and_mlp_vanish_with_the_norm_in_front() -> None:
    x = torch.randn(2, 7, 5)
    found = found_in(network := forward_of_sequential(transformer()), x)
    assert {g.name: g.vanish for g in found.groups if g.vanish is not None} == {
        f"parts.{i}.{name}": (f"parts.{i}.norm{n}",) for i in (1, 2) for n, name in ((1, "attn.qkv"), (2, "fc1"))
    }
    cut = assert_branches_can_go(network, found.groups, x)
    assert [g.kind for g in found_in(cut, x.double()).groups] == ["width"]


class Added(nn.Module):
    """An attention in a residual branch."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), attention

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


class OfTorch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Inferred(WidthFromShape):
    """Attention that lets torch infer a size, which torch cannot do without heads."""

    def forward(self, x: Tensor) -> Tensor:
        b, n = x.shape[:2]
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).reshape(b, n, -1))


@pytest.mark.parametrize(("attention", "vanish"), [(OfTorch(), ("parts.1.norm",)), (Inferred(16, 4), None)])
def test_an_attention_vanishes_if_its_code_runs_without_heads(attention: nn.Module, vanish: object) -> None:
    x = torch.randn(2, 7, 5)
    network = forward_of_sequential(nn.Sequential(nn.Linear(5, 16), Added(attention), nn.Linear(16, 3)))
    found = found_in(network, x)
    (group,) = (g for g in found.groups if g.size == 4)
    assert group.vanish == vanish
    if vanish is not None:
        cut = assert_branches_can_go(network, found.groups, x)
        assert found_in(cut, x.double()).groups
