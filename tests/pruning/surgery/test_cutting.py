import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning.cost import ParamCost, count_params
from pruning.groups import Group, Slice
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.surgery import compact
from pruning.surgery import compacted as compacted_copy
from pruning.surgery.cutting import Constant
from tests.pruning.networks import (
    BranchNet,
    ConvNet,
    NormNet,
    compacted,
    crops,
    largest_error,
    random_gates,
    random_plan,
    shake,
    tiny_ostrack,
)
from trackers.layers.backbones import ResNet

few = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**20)


@st.composite
def ostracks(draw: Callable) -> nn.Module:
    heads = draw(st.integers(1, 4))
    stem = draw(st.sampled_from([None, 6]))
    return tiny_ostrack(
        dim=heads * draw(st.sampled_from([3, 8, 12])),
        depth=draw(st.integers(1, 3)),
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.0])),
        head_channels=draw(st.lists(st.integers(2, 7), min_size=2, max_size=4)),
        stem_hidden=stem,
        template=draw(st.sampled_from([16, 32] if stem else [32])),
        search=draw(st.sampled_from([32, 64])),
    )


@few
@given(ostracks(), SEEDS, st.booleans())
def test_masked_ostrack_equals_compacted_in_float32(network: nn.Module, seed: int, soft: bool) -> None:
    network = shake(network, seed).eval()
    plan = random_plan(network.groups(), seed)
    gates = random_gates(network, network.groups(), plan, seed, soft)
    inputs = crops(network, seed=seed)
    with torch.no_grad():
        with gates.folded():
            masked = network(**inputs)
        child = compacted(network, gates, plan)
        assert largest_error(masked, child(**inputs)) < 1e-5


@few
@given(ostracks(), SEEDS, st.booleans())
def test_masked_ostrack_equals_compacted_in_float64(network: nn.Module, seed: int, training: bool) -> None:
    network = shake(network.double(), seed).train(training)
    groups = network.groups()
    plan = random_plan(groups, seed)
    gates = random_gates(network, groups, plan, seed)
    inputs = crops(network, batch=3, seed=seed)
    child = compacted(network, gates, plan)
    with torch.no_grad():
        with gates.folded():
            masked = network(**inputs)
        assert largest_error(masked, child(**inputs)) < 1e-10
    # Batch norms moved their statistics alike as well.
    statistics = compacted(network, gates, plan).state_dict()
    for name, value in child.state_dict().items():
        torch.testing.assert_close(value, statistics[name], rtol=1e-10, atol=1e-10, msg=name)


@few
@given(SEEDS, st.booleans(), st.booleans())
def test_masked_cnn_equals_compacted(seed: int, training: bool, soft: bool) -> None:
    network = shake(ConvNet().double(), seed).train(training)
    groups = network.groups()
    plan = random_plan(groups, seed)
    gates = random_gates(network, groups, plan, seed, soft)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    child = compacted(network, gates, plan)
    with torch.no_grad():
        with gates.folded():
            masked = network(x)
        assert largest_error(masked, child(x)) < 1e-10


@few
@given(SEEDS)
def test_masked_residual_stream_with_a_square_matrix_equals_compacted(seed: int) -> None:
    network = shake(NormNet().double(), seed)
    plan = random_plan(network.groups(), seed)
    gates = random_gates(network, network.groups(), plan, seed)
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        with gates.folded():
            masked = network(x)
        torch.testing.assert_close(compacted(network, gates, plan)(x), masked, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_kept_weights_get_the_gradients_that_they_have_in_the_compacted_network(seed: int) -> None:
    network = shake(tiny_ostrack(depth=1).double(), seed).train()
    groups = network.groups()
    plan = random_plan(groups, seed)
    gates = random_gates(network, groups, plan, seed, soft=False)
    child, inputs = compacted(network, gates, plan), crops(network, batch=3)

    def backward(net: nn.Module) -> None:
        sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).sum() for m in net(**inputs).values()).backward()

    gates.fold()
    backward(network)
    gates.unfold()
    backward(child)
    gradients = copy.deepcopy(network)  # cut like weights, gradients lie where the child's do
    for p, own in zip(gradients.parameters(), network.parameters(), strict=True):
        p.data = own.grad
    compact(gradients, groups, plan)
    for (name, p), expected in zip(child.named_parameters(), gradients.parameters(), strict=True):
        torch.testing.assert_close(p.grad, expected.data, rtol=1e-9, atol=1e-9, msg=name)


def test_empty_attention_and_mlp_leave_their_output_bias() -> None:
    network = shake(tiny_ostrack(depth=1)).eval()
    child = compact(network, network.groups(), Plan({"backbone.blocks.0.attn": (), "backbone.blocks.0.mlp": ()}))
    assert type(child.backbone.blocks[0].norm1) is type(child.backbone.blocks[0].norm2) is nn.Identity
    block, x = child.backbone.blocks[0], torch.randn(2, 5, 16)
    torch.testing.assert_close(block.attn(x), block.attn.proj.bias.expand_as(x))
    torch.testing.assert_close(block.mlp(x), block.mlp.fc2.bias.expand_as(x))


def test_the_meta_device_rebuilds_the_shapes_of_a_child() -> None:
    network = tiny_ostrack(stem_hidden=6, depth=2, heads=4)
    plan = random_plan(network.groups(), 3)
    with torch.device("meta"):
        rebuilt = tiny_ostrack(stem_hidden=6, depth=2, heads=4)
    compact(rebuilt, rebuilt.groups(), plan)
    child = compact(shake(network).eval(), network.groups(), plan)
    assert all(p.is_meta for p in rebuilt.parameters())
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in child.state_dict().items()}
    rebuilt.load_state_dict(child.state_dict(), strict=True, assign=True)
    inputs = crops(child)
    with torch.no_grad():
        assert largest_error(child(**inputs), rebuilt.eval()(**inputs)) == 0


def test_layers_know_their_new_sizes_and_stay_ordinary() -> None:
    network = ConvNet()
    network.conv0.weight.requires_grad_(False)
    types = [type(m) for m in network.modules()]
    plan = Plan({"stream": (0, 2, 5), "inner": (1,), "branch": (0, 3), "hidden": ()})
    child = compact(network, network.groups(), plan)
    assert [type(m) for m in child.modules()] == types
    assert (child.conv1.in_channels, child.conv1.out_channels, child.bn1.num_features) == (3, 1, 1)
    assert (child.fc1.in_features, child.fc1.out_features, child.fc2.in_features) == (4 * 5, 0, 0)
    assert not child.conv0.weight.requires_grad
    assert child.conv1.weight.requires_grad
    assert set(dict(child.named_buffers())) == set(dict(ConvNet().named_buffers()))


def test_kept_entries_of_a_concatenation_and_of_a_flattened_map_are_the_right_ones() -> None:
    network = shake(ConvNet())
    before = network.fc1.weight.detach().clone()
    compact(network, network.groups(), Plan({"stream": (1, 5), "branch": (2,)}))
    columns = [4, 5, 6, 7, 20, 21, 22, 23, 24 + 8, 24 + 9, 24 + 10, 24 + 11]
    assert torch.equal(network.fc1.weight, before[:, columns])


def test_a_convolution_that_would_lose_everything_is_refused_before_anything_is_cut() -> None:
    network = ConvNet()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    plan = Plan({"hidden": (1,), "stream": (0,), "branch": ()})
    may_vanish = [replace(g, vanish=()) for g in network.groups()]
    with pytest.raises(ValueError, match=r"leaves 'conv3.weight' without entries in dim 0; keep at least one unit"):
        compact(network, may_vanish, plan)  # whatever is declared: torch has no convolution without channels
    with pytest.raises(
        ValueError, match=r"empties group 'branch' \(inner, 4 units\), which must keep at least one unit"
    ):
        compact(network, network.groups(), plan)
    after = network.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)


def branch_plans() -> st.SearchStrategy[Plan]:
    """Returns a random plan of a `BranchNet` in which many branches are empty."""
    inner = {f"branches.{i}": st.sets(st.integers(0, 4), max_size=2) for i in range(3)}
    units = st.fixed_dictionaries(inner | {"width": st.sets(st.integers(0, 6), min_size=1)})
    return units.map(lambda kept: Plan({name: tuple(sorted(k)) for name, k in kept.items()}))


@settings(few, max_examples=40)
@given(branch_plans(), SEEDS, st.booleans())
def test_masked_branches_vanish_as_the_compacted_ones(plan: Plan, seed: int, soft: bool) -> None:
    network = shake(BranchNet().double(), seed)
    gates = random_gates(network, network.groups(), plan, seed, soft)
    child = compacted(network, gates, plan)
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        with gates.folded():
            masked = network(x)
        torch.testing.assert_close(child(x), masked, rtol=1e-10, atol=1e-10)
    for i, branch in enumerate(child.branches):
        vanished = not plan.kept[f"branches.{i}"]
        assert [type(m) is nn.Identity for m in (branch.norm, branch.inside)] == [vanished, vanished]
        if vanished:
            assert torch.equal(branch(torch.randn(5, len(plan.kept["width"])).double()), branch.fc2.bias.expand(5, -1))


def test_a_vanished_branch_leaves_its_output_bias_alone() -> None:
    network = BranchNet(depth=1)
    compact(network, network.groups(), Plan({"branches.0": (), "width": (1, 2, 5)}))
    sizes = {name: p.numel() for name, p in network.branches.named_parameters()}
    assert {name: size for name, size in sizes.items() if size} == {"0.fc2.bias": 3}


def test_the_meta_device_rebuilds_a_child_whose_branches_vanished() -> None:
    plan = Plan({"branches.0": (), "branches.1": (0, 3), "width": (1, 2, 5)})
    with torch.device("meta"):
        rebuilt = BranchNet()
    compact(rebuilt, rebuilt.groups(), plan)
    child = compact(shake(BranchNet()), BranchNet().groups(), plan)
    assert all(p.is_meta for p in rebuilt.parameters())
    rebuilt.load_state_dict(child.state_dict(), strict=True, assign=True)
    x = torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), child(x))


@few
@given(branch_plans(), SEEDS)
def test_pruning_a_network_whose_branches_vanished_equals_one_plan(first: Plan, seed: int) -> None:
    network = shake(BranchNet(), seed)
    at_once = copy.deepcopy(network)
    compact(network, network.groups(), first)
    second = random_plan(network.groups(), seed)
    compact(network, network.groups(), second)
    compact(at_once, at_once.groups(), first.followed_by(second))
    a, b = network.state_dict(), at_once.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_plan_of_another_network_is_refused() -> None:
    network = ConvNet()
    with pytest.raises(ValueError, match="lists the group 'elsewhere'"):
        compact(network, network.groups(), Plan({"elsewhere": (0,)}))


@few
@given(ostracks(), SEEDS)
def test_pruning_a_pruned_network_equals_one_plan(network: nn.Module, seed: int) -> None:
    network = shake(network, seed).eval()
    at_once = copy.deepcopy(network)
    first = random_plan(network.groups(), seed)
    compact(network, network.groups(), first)
    second = random_plan(network.groups(), seed + 1)
    compact(network, network.groups(), second)
    compact(at_once, at_once.groups(), first.followed_by(second))
    a, b = network.state_dict(), at_once.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    inputs = crops(network, batch=1, seed=seed)
    with torch.no_grad():
        assert largest_error(network(**inputs), at_once(**inputs)) == 0


@pytest.mark.parametrize(
    "build", [torch.optim.AdamW, partial(torch.optim.SGD, lr=0.1, momentum=0.9), torch.optim.RMSprop]
)
@pytest.mark.parametrize("seed", range(3))
def test_an_optimizer_goes_on_with_the_kept_entries_of_its_state(build: Callable[..., Optimizer], seed: int) -> None:
    """The optimizer keeps the state of kept entries: a step after surgery moves them like a step before."""
    network = shake(tiny_ostrack().double(), seed)
    groups, x = network.groups(), crops(network, seed=seed)
    plan = random_plan(groups, seed)
    optimizer = build([{"params": [p], "weight_decay": 0.1} for p in network.parameters()])
    for _ in range(2):  # momenta that are not the gradient
        optimizer.zero_grad()
        sum(v.square().mean() for v in network(**x).values()).backward()
        optimizer.step()
    names = {p: n for n, p in network.named_parameters()}
    state = {
        names[p]: {k: v.clone() for k, v in s.items() if isinstance(v, Tensor)} for p, s in optimizer.state.items()
    }
    child = copy.deepcopy((network, optimizer))
    compact(child[0], groups, plan, child[1])
    left = dict(child[0].named_parameters())
    followed = [p for settings in child[1].param_groups for p in settings["params"]]
    assert {id(p) for p in followed} == {id(p) for p in left.values()}
    assert all(settings["weight_decay"] == 0.1 for settings in child[1].param_groups)
    for name, p in left.items():
        mine = {k: v for k, v in child[1].state[p].items() if isinstance(v, Tensor)}
        assert mine.keys() == state[name].keys()
    # A network whose weights are the momenta is cut the same way.
    for key in {key for values in state.values() for key in values}:
        twin = copy.deepcopy(network)
        shaped = {name for name in left if state[name][key].shape == twin.get_parameter(name).shape}
        for name in shaped:
            twin.get_parameter(name).data.copy_(state[name][key])
        cut = compact(twin, groups, plan)
        for name, p in left.items():
            wanted = cut.get_parameter(name) if name in shaped else state[name][key]
            assert torch.equal(child[1].state[p][key], wanted), (name, key)
    for p in followed:
        p.grad = torch.ones_like(p)
    child[1].step()


def test_an_optimizer_forgets_parameters_of_vanished_modules() -> None:
    network = shake(BranchNet().double(), 0)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(3, 6, dtype=torch.float64)).sum().backward()
    optimizer.step()
    compact(network, network.groups(), Plan({"branches.1": ()}), optimizer)
    left = {id(p) for p in network.parameters()}
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in optimizer.state} == left


class Bottlenecks(nn.Module):
    """Two bottlenecks that keep the size of their input; the last convolution of the second one may have a bias."""

    def __init__(self, bias: bool):
        super().__init__()
        self.body = ResNet("resnet50", frozen_norm=False, stages=1)
        self.body.layer1[2].conv3 = nn.Conv2d(64, 256, 1, bias=bias)
        self.out = nn.Conv2d(256, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.out(self.body(x))}

    def groups(self) -> list[Group]:
        *inner, last = (g.with_prefix("body.") for g in self.body.groups())
        return [*inner, replace(last, slices=(*last.slices, Slice("out.weight", 1, gated=True)))]


@pytest.mark.parametrize("bias", [False, True])
def test_an_emptied_bottleneck_adds_what_its_last_norm_makes_of_nothing(bias: bool) -> None:
    network = shake(Bottlenecks(bias), 1).eval()
    groups, x = network.groups(), torch.randn(2, 3, 32, 32)
    plan = Plan({"body.layer1.2.conv1": (), "body.layer1.2.conv2": (), "body.layer1": tuple(range(0, 256, 3))})
    gates = random_gates(network, groups, plan, 0, soft=False)
    with torch.no_grad(), gates.folded():
        masked = network(x)
    params = ParamCost(network, groups)([len(plan.units(g)) for g in groups])
    with torch.no_grad():
        child = compact(network, groups, plan)
        assert largest_error(masked, child(x)) < 1e-5
    assert params == count_params(child)
    assert not {"body.layer1.2.conv1", "body.layer1.2.conv2"} & {g.name for g in child.groups()}
    # The stream can be cut again, and the branch's constant with it.
    again = Plan({"body.layer1": (0, 5, 9)})
    gates = random_gates(child, check_groups(child, child.groups()), again, 0, soft=False)
    with torch.no_grad():
        with gates.folded():
            masked = child(x)
        assert largest_error(masked, compact(child, gates.groups, again)(x)) < 1e-5
    assert child.body.layer1[2].conv3.out_channels == 3


def test_a_plan_that_empties_a_part_of_a_branch_is_refused() -> None:
    network = Bottlenecks(False)
    with pytest.raises(ValueError, match="empties a part of the branch of groups"):
        compact(network, network.groups(), Plan({"body.layer1.2.conv1": ()}))
    assert network.body.layer1[2].conv1.out_channels == 64


def test_a_compacted_copy_leaves_the_network_alone() -> None:
    network = shake(BranchNet(), 0)
    before = copy.deepcopy(network.state_dict())
    child = compacted_copy(network, network.groups(), Plan({"width": (0, 2)}))
    assert child.embed.out_features == 2
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), ((3, 2), (2, 1))])
def test_a_constant_is_the_convolution_of_zeros(
    kernel: int, dilation: int, stride: int, padding: int, bias: bool
) -> None:
    conv = nn.Conv2d(2, 3, kernel, stride, padding, dilation, bias=bias)
    x = torch.randn(2, 2, 9, 11)
    constant = Constant(conv, 3)
    nn.init.zeros_(conv.weight)
    assert torch.equal(constant(x), conv(x))
    assert constant.out_channels == 3
