"""Tests of cuts of layers beyond plain linear layers and convolutions: masked and cut network compute the same."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import Group, Plan, Pruner, PruningError, Slice, compact
from pruning.cost import MacCost, ParamCost, count_macs, count_params
from pruning.criteria import Magnitude
from pruning.groups.checks import check_groups
from pruning.trial.layer_sizes import check_layers
from tests.pruning.networks import compacted, random_gates, random_plan, shake


def write(*layers: str, gated: bool = False, **options: object) -> tuple[Slice, ...]:
    return tuple(Slice(f"{layer}.{t}", 0, gated=gated, **options) for layer in layers for t in ("weight", "bias"))


class Net(nn.Module):
    """Layers, a forward that is given as a function, and groups that are read from the present sizes."""

    def __init__(self, forward: Callable, groups: Callable, **layers: nn.Module):
        super().__init__()
        self.run, self.declare = forward, groups
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)

    def groups(self) -> list[Group]:
        return self.declare(self)


def depthwise() -> Net:
    """Returns an inverted bottleneck: a channel of the depthwise convolution is one of its groups."""

    def groups(n: Net) -> list[Group]:
        statistics = (Slice("bn.running_mean", 0), Slice("bn.running_var", 0))
        slices = (*write("up"), *write("middle"), *write("bn", gated=True), *statistics, Slice("down.weight", 1))
        return [Group("hidden", "conv", n.middle.groups, slices, attributes=(("middle.groups", 1),))]

    return Net(
        lambda n, x: n.down(n.bn(n.middle(n.up(x))).relu()),
        groups,
        up=nn.Conv2d(3, 8, 1),
        middle=nn.Conv2d(8, 8, 3, groups=8),
        bn=nn.BatchNorm2d(8),
        down=nn.Conv2d(8, 4, 1),
    )


def grouped(transposed: bool = False) -> Net:
    """Returns a grouped convolution that loses whole groups of outputs; behind it, channels are shuffled."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d

    def groups(n: Net) -> list[Group]:
        g = n.middle.groups
        weight = Slice("middle.weight", 0, inner=2 if transposed else 3)
        middle = (weight, Slice("middle.bias", 0, inner=3))
        table = tuple(tuple(k * g + u for k in range(3)) for u in range(g))
        slices = (*write("up", gated=True, inner=2), *middle, Slice("down.weight", 1, table=table, gated=False))
        return [Group("groups", "conv", g, slices, attributes=(("middle.groups", 1),))]

    def forward(n: Net, x: Tensor) -> Tensor:
        y = n.middle(n.up(x))
        y = F.relu(y - n.middle.bias[:, None, None])  # a closed group of inputs leaves the bias
        return n.down(y.unflatten(1, (n.middle.groups, 3)).transpose(1, 2).flatten(1, 2))

    middle = kind(8, 12, 3, groups=4)
    return Net(forward, groups, up=nn.Conv2d(3, 8, 1), middle=middle, down=nn.Conv2d(12, 4, 1))


def inside_groups(transposed: bool = False) -> Net:
    """Returns a grouped convolution that loses the same inputs and outputs of every group."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d

    def groups(n: Net) -> list[Group]:
        c_in, c_out = n.up.out_channels // 2, n.down.in_channels // 2
        rows, columns = (c_in, c_out) if transposed else (c_out, c_in)
        per_group = Slice("middle.weight", 0, offsets=(0, rows)), Slice("middle.weight", 1)
        own, other = reversed(per_group) if transposed else per_group
        assert (rows, columns) == (n.middle.weight.shape[0] // 2, n.middle.weight.shape[1])
        inputs = Group("inputs", "conv", c_in, (*write("up", gated=True, offsets=(0, c_in)), other))
        reads = Slice("down.weight", 1, offsets=(0, c_out), gated=True)
        return [inputs, Group("outputs", "conv", c_out, (own, Slice("middle.bias", 0, (0, c_out)), reads))]

    middle = kind(8, 12, 3, groups=2)
    layers = {"up": nn.Conv2d(3, 8, 1), "middle": middle, "down": nn.Conv2d(12, 4, 1)}
    return Net(lambda n, x: n.down(n.middle(n.up(x).relu()).sigmoid()), groups, **layers)


def transposed() -> Net:
    def groups(n: Net) -> list[Group]:
        inputs = Group("inputs", "conv", n.up.out_channels, (*write("up", gated=True), Slice("middle.weight", 0)))
        slices = (Slice("middle.weight", 1), Slice("middle.bias", 0), Slice("down.weight", 1, gated=True))
        return [inputs, Group("outputs", "conv", n.down.in_channels, slices)]

    middle = nn.ConvTranspose2d(8, 6, 3, stride=2)
    layers = {"up": nn.Conv2d(3, 8, 1), "middle": middle, "down": nn.Conv2d(6, 4, 1)}
    return Net(lambda n, x: n.down(n.middle(n.up(x).relu()).sigmoid()), groups, **layers)


def group_norm() -> Net:
    def groups(n: Net) -> list[Group]:
        slices = (*write("up", inner=2), *write("norm", gated=True, inner=2), Slice("down.weight", 1, inner=2))
        return [Group("blocks", "conv", n.norm.num_groups, slices, attributes=(("norm.num_groups", 1),))]

    layers = {"up": nn.Conv2d(3, 8, 1), "norm": nn.GroupNorm(4, 8), "down": nn.Conv2d(8, 4, 1)}
    return Net(lambda n, x: n.down(n.norm(n.up(x)).relu()), groups, **layers)


def instance_norm() -> Net:
    def groups(n: Net) -> list[Group]:
        statistics = (Slice("norm.running_mean", 0), Slice("norm.running_var", 0))
        slices = (*write("up"), *write("norm", gated=True), *statistics, Slice("down.weight", 1))
        return [Group("channels", "conv", n.norm.num_features, slices)]

    norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
    layers = {"up": nn.Conv2d(3, 8, 1), "norm": norm, "down": nn.Conv2d(8, 4, 1)}
    return Net(lambda n, x: n.down(n.norm(n.up(x)).relu()), groups, **layers)


def tied() -> Net:
    """Returns a network whose output layer is its embedding, as in language models."""

    def groups(n: Net) -> list[Group]:
        width = n.embed.embedding_dim
        hidden = Group("hidden", "mlp", n.up.out_features, (*write("up"), Slice("down.weight", 1, gated=True)))
        stream = (Slice("out.weight", 1, gated=True), Slice("up.weight", 1), *write("down"))
        return [hidden, Group("stream", "width", width, stream)]

    layers = {"up": nn.Linear(8, 6), "down": nn.Linear(6, 8), "out": nn.Linear(8, 5, bias=False)}
    network = Net(
        lambda n, x: n.out(n.embed(x[:, 0, 0].long().abs() % 5) + n.down(n.up(n.embed(x[:, 1, 1].long().abs() % 5)))),
        groups,
        embed=nn.Embedding(5, 8),
        **layers,
    )
    network.out.weight = network.embed.weight
    return network


def split() -> Net:
    """Returns a network that splits its channels by sizes in a tuple, and shares the tuple with nothing else."""

    def groups(n: Net) -> list[Group]:
        a, b = n.up.split_sizes
        first = Slice("up.weight", 0, gated=True), Slice("up.bias", 0, gated=True), Slice("first.weight", 1)
        rest = (*write("up", gated=True, offsets=(a,)), Slice("second.weight", 1))
        return [
            Group("first", "conv", a, first, attributes=(("up.split_sizes.0", 1),)),
            Group("second", "conv", b, rest, attributes=(("up.split_sizes.1", 1),)),
        ]

    def forward(n: Net, x: Tensor) -> Tensor:
        first, second = n.up(x).split(n.up.split_sizes, 1)
        return n.first(first) * n.second(second)

    layers = {"up": nn.Conv2d(3, 9, 1), "first": nn.Conv2d(5, 4, 1), "second": nn.Conv2d(4, 4, 1)}
    network = Net(forward, groups, **layers)
    network.up.split_sizes = (5, 4)
    return network


def attention() -> Net:
    """Returns an attention with two heads that divides its logits by the root of its own width."""

    def groups(n: Net) -> list[Group]:
        d = n.qkv.out_features // 6
        q = write("qkv", gated=True, offsets=(0, d), rescaled=True)
        k, v = write("qkv", offsets=(2 * d, 3 * d)), write("qkv", offsets=(4 * d, 5 * d), gated=True)
        return [Group("dims", "attention", d, (*q, *k, *v, Slice("out.weight", 1, offsets=(0, d))))]

    def forward(n: Net, x: Tensor) -> Tensor:
        q, k, v = n.qkv(x.flatten(1)[:, :12].unflatten(1, (4, 3))).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return n.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    return Net(forward, groups, qkv=nn.Linear(3, 6 * 8), out=nn.Linear(2 * 8, 4))


GOOD = {
    "depthwise": depthwise,
    "grouped": grouped,
    "grouped and transposed": lambda: grouped(transposed=True),
    "inside groups": inside_groups,
    "inside groups of a transposed convolution": lambda: inside_groups(transposed=True),
    "transposed": transposed,
    "group norm": group_norm,
    "instance norm": instance_norm,
    "tied": tied,
    "split": split,
    "attention": attention,
}


@dataclass
class Case:
    """A network in double precision, its groups, a plan, and an input."""

    network: Net
    plan: Plan
    x: Tensor

    @classmethod
    def of(cls, build: Callable[[], Net], seed: int = 0) -> "Case":
        torch.manual_seed(seed)
        network = shake(build().double(), seed).eval()
        x = 5 * torch.randn(3, 3, 6, 6, dtype=torch.float64)
        return cls(network, random_plan(network.groups(), seed), x)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", GOOD)
def test_masked_equals_cut_and_may_be_cut_again(name: str, seed: int) -> None:
    case = Case.of(GOOD[name], seed)
    network = case.network
    for again in range(2):
        groups = check_groups(network, network.groups())
        check_layers(network, groups)
        plan = random_plan(groups, seed + again)
        gates = random_gates(network, groups, plan, seed, soft=True)
        params = ParamCost(network, groups)([len(plan.units(g)) for g in groups])
        if seed == again == 0:
            macs = MacCost(network, groups, lambda _: {"x": case.x})([len(plan.units(g)) for g in groups])
        with torch.no_grad():
            with gates.folded():
                masked = network(case.x)
            network = compacted(network, gates, plan)
            torch.testing.assert_close(network(case.x), masked, rtol=1e-9, atol=1e-9)
        assert params == count_params(network)
        if seed == again == 0:
            assert round(macs) == count_macs(network, {"x": case.x}).total


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_network_is_an_ordinary_one(name: str) -> None:
    case = Case.of(GOOD[name])
    child = compact(copy.deepcopy(case.network), case.network.groups(), case.plan)
    assert [type(m) for m in child.modules()] == [type(m) for m in case.network.modules()]
    with torch.no_grad():
        expected = child(case.x)
        assert torch.equal(copy.deepcopy(child)(case.x), expected)
        with torch.device("meta"):
            rebuilt = GOOD[name]().eval()
        compact(rebuilt, case.network.groups(), case.plan)
        rebuilt.load_state_dict(child.state_dict(), strict=True, assign=True)
        assert torch.equal(rebuilt(case.x), expected)
    again = compact(copy.deepcopy(case.network), case.network.groups(), Plan())
    assert str(again) == str(case.network)


@pytest.mark.parametrize("name", GOOD)
def test_a_pruner_prunes_each_kind_of_layer(name: str) -> None:
    case = Case.of(GOOD[name])
    pruner = Pruner(0.7, Magnitude(), ratio_of="units")
    pruner.attach(case.network, case.network.groups(), inputs=lambda _: {"x": case.x})
    pruner.update()
    assert pruner.finish([{"x": case.x}])["masked_vs_compacted"] < 1e-9
    case.network(case.x).sum().backward()
    assert all(p.grad is not None for p in case.network.parameters())


def test_tied_weights_stay_tied_and_keep_their_optimizer() -> None:
    case = Case.of(tied)
    optimizer = torch.optim.Adam(case.network.parameters())
    case.network(case.x).sum().backward()
    optimizer.step()
    compact(case.network, case.network.groups(), Plan({"stream": (0, 2, 5)}), optimizer)
    assert case.network.embed.weight is case.network.out.weight
    assert (case.network.embed.embedding_dim, case.network.out.in_features) == (3, 3)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in case.network.parameters()}
    assert optimizer.state[case.network.embed.weight]["exp_avg"].shape == (5, 3)


def test_layers_know_their_sizes() -> None:
    network = grouped(transposed=True)
    compact(network, network.groups(), Plan({"groups": (0, 3)}))
    assert (network.middle.in_channels, network.middle.out_channels, network.middle.groups) == (4, 6, 2)
    network = depthwise()
    compact(network, network.groups(), Plan({"hidden": (1, 4, 5)}))
    assert (network.middle.in_channels, network.middle.out_channels, network.middle.groups) == (3, 3, 3)
    network = group_norm()
    compact(network, network.groups(), Plan({"blocks": (1, 2)}))
    assert (network.norm.num_groups, network.norm.num_channels) == (2, 4)
    network = split()
    compact(network, network.groups(), Plan({"second": (1, 2)}))
    assert network.up.split_sizes == (5, 2)


WRONG = {
    "groups that are not counted": (
        depthwise,
        lambda g: Group(g.name, g.kind, g.size, g.slices),
        r"in the 8 groups of the convolution 'middle', with 8 groups after .*\(\('middle.groups', 1\),\)",
    ),
    "a bias of other units": (
        transposed,
        lambda g: Group(g.name, g.kind, g.size, tuple(s for s in g.slices if s.path != "middle.bias")),
        "'middle.bias' keeps 6 entries, but not those of the 3 outputs",
    ),
    "a part of a norm's group": (
        group_norm,
        lambda g: Group(g.name, g.kind, g.size, g.slices),
        "channels in the 4 groups of 'norm', with 4 groups after the cut. Whole groups must go",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_cut_that_does_not_fit_the_layer_is_refused_by_name(name: str) -> None:
    build, change, message = WRONG[name]
    network = build()
    before = copy.deepcopy(network.state_dict())
    groups = [change(g) for g in network.groups()]
    with pytest.raises(PruningError, match=message):
        compact(network, groups, Plan({groups[-1].name: tuple(range(groups[-1].size // 2))}))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("layer", [nn.GRU(4, 4), nn.LSTMCell(4, 4)])
def test_layers_that_surgery_does_not_know_are_refused_by_name(layer: nn.Module) -> None:
    name = next(name for name, _ in layer.named_parameters())
    network = nn.ModuleDict({"inside": layer})
    group = Group("units", "rnn", 4, (Slice(f"inside.{name}", 1, gated=True),))
    with pytest.raises(PruningError, match=f"surgery does not support {type(layer).__name__}: 'inside'"):
        compact(network, [group], Plan({"units": (0, 1)}))


@pytest.mark.parametrize("layer", [StdConv2d(4, 6, 3), ScaledStdConv2dSame(4, 6, 3)])
def test_a_standardised_weight_keeps_its_inputs(layer: nn.Module) -> None:
    network = nn.ModuleDict({"inside": layer}).to("meta")
    reads = Group("units", "conv", 4, (Slice("inside.weight", 1, gated=True),))
    with pytest.raises(PruningError, match=f"change their weight, as {type(layer).__name__} does: 'inside'"):
        compact(network, [reads], Plan({"units": (0, 1)}))
    outputs = tuple(Slice(f"inside.{name}", 0, gated=True) for name, _ in layer.named_parameters())
    child = compact(network, [Group("units", "conv", 6, outputs)], Plan({"units": (0, 1)}))
    assert child["inside"].out_channels == 2


def test_a_convolution_that_pads_is_an_ordinary_one() -> None:
    network = nn.Sequential(Conv2dSame(4, 6, 3, groups=2))
    compact(network, [Group("units", "conv", 2, (Slice("0.weight", 1, gated=True),))], Plan({"units": (1,)}))
    assert network[0].in_channels == 2


def test_rows_of_an_embedding_are_no_units() -> None:
    network = nn.Sequential(nn.Embedding(4, 6))
    with pytest.raises(PruningError, match=r"'0.weight' loses rows.* Slice\('0.weight', 1\)"):
        compact(network, [Group("words", "embed", 4, (Slice("0.weight", 0, gated=True),))], Plan({"words": (0, 1)}))
