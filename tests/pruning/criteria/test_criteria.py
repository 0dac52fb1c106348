import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruning.budget import RemovalRules, fit_plan
from pruning.budget.ranking import quantile_ranks
from pruning.cost import ParamCost
from pruning.criteria import Criterion, Depth, Fisher, Magnitude, NetworkSlimming, Random, Slim, Taylor
from pruning.criteria.criterion import setting_by_unit
from pruning.criteria.depth import _branch_gradient
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group, Slice, branches
from pruning.plan import Plan
from pruning.pruner import Pruner
from tests.pruning.networks import BranchNet, ConvNet, NormNet, shake, tiny_ostrack

LEARNED = {"taylor": Taylor, "fisher": Fisher, "depth": Depth}


def started(criterion: Criterion, gates: Gates, steps: int = 10) -> Criterion:
    criterion.start(gates, ParamCost(gates.network, gates.groups), 0.5, steps)
    return criterion


def inputs(seed: int) -> Tensor:
    return torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step(criterion: Criterion, gates: Gates, seed: int, frozen: bool = False) -> None:
    """Takes one step of a stage without the optimizer step."""
    gates.network.zero_grad()
    gates.fold()
    loss_of(gates.network(inputs(seed))).backward()
    gates.unfold()
    if frozen:
        gates.network.zero_grad()
    criterion.after_step(gates)
    gates.values.grad = None


def loss_of(out: Tensor) -> Tensor:
    return (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum() + out.square().mean()


# Weight norms


def norm_net() -> Gates:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(6, 1))
    network[0].weight.data = torch.tensor([[3.0, 0.0], [0.0, -1.0], [2.0, 2.0]])
    network[0].bias.data = torch.tensor([4.0, 0.0, 1.0])
    network[1].weight.data = torch.tensor([0.0, 1.0, -4.0])
    network[1].bias.data = torch.tensor([12.0, 1.0, 0.0])
    network[1].running_var.fill_(100.0)
    network[2].weight.data = torch.tensor([[0.0, 0.0, 1.0, 0.0, 12.0, 0.0]])
    bn = tuple(Slice(f"1.{p}", 0, gated=True) for p in ("weight", "bias"))
    buffers = tuple(Slice(f"1.{b}", 0) for b in ("running_mean", "running_var"))
    cut = (Slice("0.weight", 0), Slice("0.bias", 0), *bn, *buffers, Slice("2.weight", 1, inner=2))
    return Gates(network, [Group("g", "mlp", 3, cut)])


def test_magnitude_by_hand() -> None:
    gates = norm_net()
    squares = torch.tensor([9.0 + 16 + 144, 1.0 + 1 + 1 + 1, 8.0 + 1 + 16 + 144])
    torch.testing.assert_close(Magnitude()(gates)["g"], squares.sqrt())
    torch.testing.assert_close(Magnitude(p=1)(gates)["g"], torch.tensor([3.0 + 4 + 12, 4.0, 4.0 + 1 + 4 + 12]))


@pytest.mark.parametrize("p", [0, 3, 1.5])
def test_only_two_norms_are_known(p: float) -> None:
    with pytest.raises(ValueError, match=rf"criterion.p={p} is not known; choose p=1 or p=2"):
        Magnitude(p)


def test_magnitude_sums_over_offsets() -> None:
    network = tiny_ostrack(dim=4, depth=1, heads=2)
    shake(network)
    attn = network.backbone.blocks[0].attn
    qkv, proj, bias = attn.qkv.weight.detach(), attn.proj.weight.detach(), attn.qkv.bias.detach()
    squares = sum(qkv[r : r + 4].square().sum(1) + bias[r : r + 4].square() for r in (0, 4, 8))
    norms = (squares + proj.square().sum(0)).sqrt()
    score = Magnitude()(Gates(network, network.groups()))["backbone.blocks.0.attn"]
    torch.testing.assert_close(score, norms)


@pytest.mark.parametrize("p", [1, 2])
def test_magnitude_ignores_statistics_and_gates(p: int) -> None:
    network = shake(ConvNet())
    gates = Gates(network, network.groups())
    before = Magnitude(p)(gates)
    network.bn1.running_var.mul_(50)
    gates.values.data.uniform_(0.1, 2)
    gates.close(Plan({"inner": (0,)}))
    for parameter in network.parameters():
        parameter.data.mul_(3)
    for name, score in Magnitude(p)(gates).items():
        torch.testing.assert_close(score, 3 * before[name])


# Gates and scales under a penalty


def test_slim_is_the_size_of_the_gates() -> None:
    network = ConvNet()
    gates = Gates(network, network.groups())
    gates.values.data = torch.linspace(-1, 1, len(gates.values))
    scores = Slim()(gates)
    assert torch.equal(torch.cat([scores[g.name] for g in network.groups()]), gates.values.detach().abs())


def test_a_setting_by_kind_reaches_every_unit() -> None:
    network = ConvNet()
    gates = Gates(network, network.groups())
    weights = gates.split(setting_by_unit({"default": 1.0, "inner": 2.0, "elsewhere": 3.0}, gates))
    assert {name: w.unique().tolist() for name, w in weights.items()} == {
        "stream": [1],
        "inner": [2],
        "branch": [2],
        "hidden": [1],
    }
    assert not setting_by_unit({}, gates).any()


def test_slim_moves_gates_by_the_loss_and_the_penalty_and_never_below_0() -> None:
    network = NormNet().double()
    gates = Gates(network, network.groups())
    criterion = started(Slim(penalty={"hidden": 0.5}, travel=3.0), gates, steps=10)
    gates.values.data[0] = 0.1
    gates.values.grad = torch.full_like(gates.values, 0.25)
    gates.values.grad[1] = -1.0
    criterion.after_step(gates)
    hidden, width = gates.values.detach().split(gates.sizes)  # Adam's first step is its rate, 3 / 10, by the sign
    assert hidden.tolist() == pytest.approx([0, 1.3, 0.7, 0.7, 0.7])
    assert width.tolist() == pytest.approx([0.7] * 8)
    assert gates.values.grad[:5].tolist() == pytest.approx([0.75, -0.5, 0.75, 0.75, 0.75])
    before = gates.values.detach().clone()
    for overflow in (slice(None), slice(3, 4)):  # of all gates or of a single one
        gates.values.grad = torch.zeros_like(gates.values)
        gates.values.grad[overflow] = torch.inf
        criterion.after_step(gates)
        assert torch.equal(gates.values, before)


def test_slimming_ranks_by_the_largest_scale_of_a_stream_and_raw() -> None:
    network = shake(ConvNet())
    network.bn0.weight.data = torch.tensor([0.0, -3.0, 1.0, 0.5, 0.0, 2.0])
    network.bn2.weight.data = torch.tensor([0.5, 1.0, -4.0, 0.0, 0.0, 2.0])
    network.bn1.weight.data = torch.tensor([20.0, 0.0, -30.0, 10.0, 5.0])
    gates = Gates(network, network.groups())
    gates.close(Plan({"inner": (0,)}))  # what is closed can come back
    scores = NetworkSlimming()(gates)
    assert scores["stream"].tolist() == [0.5, 3.0, 4.0, 0.5, 0.0, 2.0]
    assert scores["inner"].tolist() == [20.0, 0.0, 30.0, 10.0, 5.0]
    norms = Magnitude()(gates)["hidden"]
    assert torch.equal(scores["hidden"], norms / norms.mean())  # linear layers have no scales


def test_slimming_takes_the_entries_of_a_unit_together() -> None:
    network = nn.Sequential(nn.Linear(2, 12), nn.BatchNorm1d(12), nn.Linear(12, 1))
    network[1].weight.data = torch.tensor([1.0, -2, 0, 3, 0, 0, 4, 0, 0, -5, 0, 0])
    cut = [Slice(f"{name}.weight", dim, (0, 6), 2, name == "2") for name, dim in (("0", 0), ("1", 0), ("2", 1))]
    gates = Gates(network, [Group("g", "mlp", 3, tuple(cut))])
    assert NetworkSlimming()(gates)["g"].tolist() == [4.0, 5.0, 0.0]
    criterion = started(NetworkSlimming(), gates)
    criterion.weights = torch.tensor([1.0, 10.0, 100.0])
    network[1].weight.grad = torch.zeros(12)
    criterion.after_step(gates)
    assert network[1].weight.grad.tolist() == [1, -1, 0, 10, 0, 0, 1, 0, 0, -10, 0, 0]


def test_slimming_without_trainable_norms_is_magnitude_over_its_mean() -> None:
    network = tiny_ostrack()
    groups = [g for g in network.groups() if g.kind != "tower"]
    gates = Gates(shake(network), groups)
    scores, norms = NetworkSlimming()(gates), Magnitude()(gates)
    assert scores.keys() == norms.keys()
    assert all(torch.equal(scores[name], norm / norm.mean()) for name, norm in norms.items())


@pytest.mark.parametrize("build", [Slim, Magnitude, NetworkSlimming, Taylor, Fisher, Random, Depth])
def test_each_criterion_penalises_what_it_ranks_and_nothing_else(build: type[Criterion]) -> None:
    network = shake(ConvNet())
    groups = [replace(g, kind=g.name) for g in network.groups()]  # a penalty for each
    gates = Gates(network, groups)
    penalty = {g.name: float(i + 1) for i, g in enumerate(groups)}
    criterion = started(build(penalty=penalty) if build in (Slim, NetworkSlimming) else build(), gates)
    gates.values.data.uniform_(-1, 1)
    values = gates.values.detach().clone()
    network.bn3.weight.requires_grad_(False)  # frozen scales are left alone
    for p in (*network.parameters(), gates.values):
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    criterion.after_step(gates)
    changed = {name: p.grad for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert changed.keys() == ({"bn0.weight", "bn1.weight", "bn2.weight"} if build is NetworkSlimming else set())
    for name, grad in changed.items():
        assert torch.equal(grad, (2.0 if name == "bn1.weight" else 1.0) * network.get_parameter(name).sign())
    weights = setting_by_unit(penalty, gates)
    assert torch.equal(gates.values.grad, weights * values.sign() if build is Slim else torch.zeros_like(weights))


def test_penalties_on_kinds_that_are_nearly_spelt_like_one_are_refused() -> None:
    groups = ConvNet().groups()
    for criterion in (Slim({"hiden": 1.0}), NetworkSlimming({"hiden": 1.0})):
        with pytest.raises(ValueError, match=r"pruning.criterion.penalty names \['hiden'\].*'hidden'"):
            criterion.check(groups, "params")
        with pytest.raises(ValueError, match=r"criterion\.penalty names"):
            Pruner(0.5, criterion).select(groups)
    for criterion in (Slim({"default": 1.0, "attention": 2.0, "inner": 1.0}), NetworkSlimming()):
        criterion.check(groups, "params")


# Gradients of gates


def explicit_gates(network: NormNet, groups: list[Group], x: Tensor) -> dict[str, Tensor]:
    """Returns dL/dg by autograd, with gates multiplied into the weights by hand."""
    hidden, width = (torch.ones(g.size, dtype=torch.float64, requires_grad=True) for g in groups)
    gated = {
        "embed.weight": network.embed.weight * width[:, None],
        "embed.bias": network.embed.bias * width,
        "fc2.weight": network.fc2.weight * width[:, None] * hidden,
        "fc2.bias": network.fc2.bias * width,
        "square.weight": network.square.weight * width[:, None],
    }
    loss = loss_of(functional_call(network, gated, (x,)))
    gradients = torch.autograd.grad(loss, [hidden, width])
    return dict(zip((g.name for g in groups), gradients, strict=True))


@pytest.mark.parametrize(("build", "power"), [(Taylor, 1), (Fisher, 2)])
def test_scores_are_running_means_of_autograds_gate_gradients(build: type[Taylor], power: int) -> None:
    network = shake(NormNet().double())
    groups = network.groups()
    gates, expected = Gates(network, groups), {g.name: torch.zeros(g.size, dtype=torch.float64) for g in groups}
    criterion = started(build(memory=0.75), gates)
    for seed in range(3):
        step(criterion, gates, seed)
        for name, gradient in explicit_gates(network, groups, inputs(seed)).items():
            expected[name] = 0.75 * expected[name] + 0.25 * gradient.abs() ** power
    scores = criterion(gates)
    for name, mean in expected.items():
        torch.testing.assert_close(scores[name], mean, rtol=1e-9, atol=1e-12)
    assert all(len(s.unique()) == len(s) for s in scores.values())


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    network = shake(NormNet().double())
    gates = Gates(network, network.groups())
    criterion = started(Taylor(memory=0.0), gates)
    step(criterion, gates, 0)
    score = criterion(gates)["hidden"]
    for unit in range(5):
        losses = []
        for value in (1 - 1e-6, 1 + 1e-6):
            twin = copy.deepcopy(network)
            twin.fc2.weight.data[:, unit] *= value
            losses.append(loss_of(twin(inputs(0))).item())
        assert abs(losses[1] - losses[0]) / 2e-6 == pytest.approx(float(score[unit]), rel=1e-5)


def test_closed_units_still_score() -> None:
    network = shake(NormNet().double())
    gates = Gates(network, network.groups())
    gates.close(Plan({"hidden": (1, 2)}))
    for build in (Taylor, Fisher):
        criterion = started(build(), gates)
        step(criterion, gates, 0)
        assert criterion(gates)["hidden"].gt(0).all()


@pytest.mark.parametrize("name", LEARNED)
def test_criteria_that_learn_refuse_to_rank_before_a_step(name: str) -> None:
    network = shake(BranchNet().double())
    gates, criterion = Gates(network, network.groups()), LEARNED[name]()
    with pytest.raises(PruningError, match=rf"{type(criterion).__name__} ranks by gradients, but has seen no"):
        criterion(gates)
    with pytest.raises(PruningError, match=r"PruningCallback .* Cubic\(start=0.2\), or choose Magnitude"):
        started(criterion, gates)(gates)
    step(criterion, gates, 0)
    criterion(gates)
    with pytest.raises(PruningError, match="has seen no training step"):
        started(criterion, gates)(gates)  # another stage starts anew


def test_gradients_that_overflow_change_no_score() -> None:
    network = shake(NormNet().double())
    gates = Gates(network, network.groups())
    criterion = started(Taylor(), gates)
    gates.values.grad = torch.ones_like(gates.values)
    gates.values.grad[3] = torch.nan
    criterion.after_step(gates)
    with pytest.raises(PruningError, match="has seen no training step"):
        criterion(gates)


@pytest.mark.parametrize("memory", [1.0, -0.1, 2, float("nan")])
def test_impossible_memories_are_refused(memory: float) -> None:
    for build in LEARNED.values():
        with pytest.raises(ValueError, match=rf"criterion.memory={memory} must lie in \[0, 1\)"):
            build(memory)


@pytest.mark.parametrize("name", ["slim", *LEARNED])
def test_the_state_of_a_criterion_survives_a_checkpoint(name: str) -> None:
    """Loads the saved state into a new criterion; both then learn the same."""
    build: Callable[[], Criterion] = {"slim": Slim, **LEARNED}[name]
    twins, ends = [], []
    for _ in range(2):
        network = shake(BranchNet().double())
        gates = Gates(network, network.groups())
        twins.append((gates, started(build(), gates)))
    (gates, criterion), (others, other) = twins
    step(criterion, gates, 0)
    step(criterion, gates, 1)
    saved = copy.deepcopy(criterion.state_dict())
    others.values.data.copy_(gates.values.data)
    other.load_state_dict(saved)
    for each, learning in twins:
        step(learning, each, 2)
        ends.append(learning(each))
    assert all(torch.equal(ends[0][g.name], ends[1][g.name]) for g in gates.groups)


@pytest.mark.parametrize("criterion", [Magnitude(), NetworkSlimming(), Random()])
def test_criteria_that_look_at_weights_need_neither_gradients_nor_a_state(criterion: Criterion) -> None:
    assert not criterion.needs_gradients
    assert criterion.state_dict() == {}
    assert all(build.needs_gradients for build in (Slim, Taylor, Fisher, Depth))


# Random scores


def test_random_scores_are_the_same_at_every_call_and_differ_by_seed() -> None:
    network = ConvNet()
    gates = Gates(network, network.groups())
    first = Random(seed=1)
    scores, again, other = first(gates), Random(seed=1)(gates), Random(seed=2)(gates)
    shake(network, 9)
    torch.manual_seed(5)
    for name, score in first(gates).items():
        assert torch.equal(score, scores[name])
        assert torch.equal(score, again[name])
        assert not torch.equal(score, other[name])
        assert len(score.unique()) == len(score)
        assert ((score >= 0) & (score < 1)).all()
    state = torch.get_rng_state()
    first(gates)
    assert torch.equal(torch.get_rng_state(), state)  # and no training is disturbed


# Whole branches


class Deep(nn.Module):
    """Residual stream with branches of two hidden layers, and therefore of two groups, each."""

    def __init__(self, width: int = 6, hidden: tuple[int, int] = (4, 3), depth: int = 3):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        sizes = (width, *hidden, width)
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(sizes)) for _ in range(depth))
        self.out = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm, (first, second, third) in zip(self.norms, self.layers, strict=True):
            x = x + third(second(first(norm(x)).relu()).tanh())
        return self.out(x)

    def groups(self) -> list[Group]:
        found = []
        for i, layers in enumerate(self.layers):
            for j in (0, 1):
                written = tuple(Slice(f"layers.{i}.{j}.{p}", 0, gated=True) for p in ("weight", "bias"))
                cut = (*written, Slice(f"layers.{i}.{j + 1}.weight", 1))
                vanish = (f"norms.{i}",) if j else ()
                found.append(Group(f"{i}.{j}", "hidden", layers[j].out_features, cut, vanish=vanish, branch=f"b{i}"))
        head = (Slice("out.weight", 0, gated=True), Slice("out.bias", 0, gated=True))
        return [*found, Group("out", "out", 2, head)]


def scale_gradients(network: Deep, x: Tensor) -> list[float]:
    """Returns dL/ds by autograd for a scale s on the output of each branch without its bias, which remains."""
    scales = torch.ones(len(network.layers), dtype=torch.float64, requires_grad=True)
    weights = {f"layers.{i}.2.weight": layers[2].weight * scales[i] for i, layers in enumerate(network.layers)}
    return torch.autograd.grad(loss_of(functional_call(network, weights, (x,))), scales)[0].tolist()


def test_depth_scores_branches_by_the_gradient_of_a_scale_on_what_they_add() -> None:
    network = shake(Deep().double())
    gates = Gates(network, network.groups())
    criterion = started(Depth(memory=0.0), gates)
    for closed in (Plan(), Plan({"0.0": (0, 2), "0.1": (1,)})):  # a closed unit adds nothing
        gates.close(closed)
        step(criterion, gates, 1)
        twin = copy.deepcopy(network)
        for group, mask in zip(gates.groups, gates.mask.split(gates.sizes), strict=True):
            for s in group.slices:
                if s.gated:
                    p = twin.get_parameter(s.path)
                    p.data *= mask.view(-1, *[1] * (p.dim() - 1))
        expected = [abs(g) for g in scale_gradients(twin, inputs(1))]
        scores = criterion(gates)
        for i, value in enumerate(expected):
            assert torch.cat([scores[f"{i}.0"], scores[f"{i}.1"]]).tolist() == pytest.approx([value] * 7, rel=1e-9)
        assert not scores["out"].any()  # it cannot vanish


def test_depth_of_weights_without_gradients_goes_by_the_gates() -> None:
    """If the last layer reads the units directly, opening all gates together equals that scale."""
    network = shake(BranchNet().double())
    groups = network.groups()
    for i, branch in enumerate(network.branches):
        branch.inside = nn.Identity()
        groups[i] = replace(
            groups[i],
            norms=(),
            vanish=(f"branches.{i}.norm",),
            slices=(
                Slice(f"branches.{i}.fc1.weight", 0),
                Slice(f"branches.{i}.fc1.bias", 0),
                Slice(f"branches.{i}.fc2.weight", 1, gated=True),
            ),
        )
    groups[-1] = replace(groups[-1], norms=("last", *(f"branches.{i}.norm" for i in range(3))))
    scores = []
    for frozen in (False, True):
        gates = Gates(network, groups)
        criterion = started(Depth(), gates)
        step(criterion, gates, 1, frozen)
        scores.append(criterion(gates))
    for name in scores[0]:
        torch.testing.assert_close(scores[0][name], scores[1][name], rtol=1e-9, atol=1e-12)
    assert scores[0]["branches.0"].gt(0).all()


def test_depth_goes_by_the_gates_only_if_all_readers_have_gates() -> None:
    network = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 4)})
    for layer in network.values():
        layer.weight.grad = torch.randn_like(layer.weight)
    by_weights = [float((network[n].weight.detach() * network[n].weight.grad).sum()) for n in "ab"]
    for gated, expected in ((("a", "b"), 7.0), (("a",), sum(by_weights)), ((), sum(by_weights))):
        group = Group("branch", "mlp", 3, tuple(Slice(f"{n}.weight", 1, gated=n in gated) for n in "ab"), vanish=())
        gates = SimpleNamespace(network=network)
        assert float(_branch_gradient(gates, group, torch.tensor([1.0, 2, 4]))) == pytest.approx(expected, rel=1e-5)


def test_depth_removes_whole_branches_and_no_other_unit() -> None:
    network = shake(Deep().double())
    groups = network.groups()
    pruner = Pruner(0.45, Depth(memory=0.0), whole_branches=True)
    pruner.attach(network, groups)
    started(pruner.criterion, pruner.gates)
    step(pruner.criterion, pruner.gates, 1)
    sizes = {g.name: g.size for g in groups}
    left = set()
    for ratio in (0.75, 0.45):
        pruner.update(ratio)
        kept = pruner.kept_counts()
        assert all(n in (0, sizes[name]) for name, n in kept.items())
        assert all(kept[f"{i}.0"] == 0 for i in range(3) if kept[f"{i}.1"] == 0)
        assert all(kept[f"{i}.1"] == 0 for i in range(3) if kept[f"{i}.0"] == 0)
        assert kept["out"] == 2
        now = {i for i in range(3) if kept[f"{i}.0"] == 0}
        assert left < now
        left = now
        assert pruner.ratio_achieved <= ratio
    worst = sorted(range(3), key=lambda i: abs(scale_gradients(network, inputs(1))[i]))
    assert left == set(worst[: len(left)])
    assert 0 < len(left) < 3


def test_the_order_of_branches_is_that_of_their_scores() -> None:
    network = Deep()
    groups = network.groups()
    assert branches(groups) == [[0, 1], [2, 3], [4, 5]]
    cost = ParamCost(network, groups)
    for worst in range(3):
        scores = {g.name: torch.full((g.size,), float(not g.name.startswith(str(worst)))) for g in groups}
        places = quantile_ranks(scores, groups, {})
        plan = fit_plan(groups, places, cost, 0.75, RemovalRules(whole_branches=True))
        assert [len(plan.units(g)) for g in groups[:-1]] == [n * (i != worst) for i in range(3) for n in (4, 3)]
