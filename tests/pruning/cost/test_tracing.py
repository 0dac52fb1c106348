import copy
import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from pruning.arguments import InputFunction
from pruning.cost.tracing import AffineSize, Operation, trace
from pruning.groups import Group, Slice
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, Filtered, Mixed, NormNet, Recipe, crops, tiny_ostrack

MIXED = Recipe(((5, 4, (4, 3)), (6, 0, (5,)), (4, 3, ())), 2, 4, ((5, False), (3, True)), 4)
CASES: dict[str, tuple[Callable[[], nn.Module], InputFunction]] = {
    "ostrack": (lambda: tiny_ostrack(head_channels=(6, 4), stem_hidden=6), crops),
    "cnn": (ConvNet, lambda _: {"x": torch.zeros(2, 3, 8, 8)}),
    "square": (NormNet, lambda _: {"x": torch.zeros(3, 6)}),
    "branches": (BranchNet, lambda _: {"x": torch.zeros(3, 6)}),
    "filtered": (Filtered, lambda _: {"x": torch.zeros(3, 5)}),
    "mixed": (lambda: Mixed(MIXED), Mixed.inputs),
}


def several_of_each(groups: Sequence[Group], seed: int) -> Plan:
    """Returns a plan with at least two units of every group, as torch uses other layouts for dims of one."""
    rng = random.Random(seed)
    return Plan({g.name: tuple(sorted(rng.sample(range(g.size), rng.randint(2, g.size)))) for g in groups})


def sizes(calls: Sequence[Operation], kept: Sequence[int]) -> list[tuple]:
    return [(c.function, *(tuple(n(kept) for n in shape) for shape in (*c.tensors, c.result))) for c in calls]


def test_a_linear_number_follows_its_groups() -> None:
    number = AffineSize(3, ((0, 2), (2, 0.5)))
    assert number([5, 100, 4]) == 3 + 10 + 2
    assert AffineSize(7)([1, 2]) == 7


@pytest.mark.parametrize("name", CASES)
def test_every_size_is_known_for_every_cut(name: str) -> None:
    build, inputs = CASES[name]
    network = build().to("meta").eval()
    groups = network.groups()
    traced = trace(network, groups, inputs)
    assert sizes(traced.operations, [g.size for g in groups]) == sizes(trace(network, [], inputs).operations, [])
    for seed in range(3):
        plan = several_of_each(groups, seed)
        child = compact(copy.deepcopy(network), groups, plan)
        kept = [len(plan.units(g)) for g in groups]
        assert sizes(traced.operations, kept) == sizes(trace(child, [], inputs).operations, [])


def test_a_network_is_traced_where_it_is_and_left_alone() -> None:
    network = ConvNet().eval()
    before = copy.deepcopy(network.state_dict())
    trace(network, network.groups(), CASES["cnn"][1])
    assert not any(p.is_meta for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))


class Parts(nn.Module):
    """Parallel linear layers, some of which are concatenated, in several orders and more than once."""

    def __init__(self, units: Sequence[int], joined: Sequence[Sequence[int]]):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(3, n) for n in units)
        self.joined = joined

    def forward(self, x: Tensor) -> list[Tensor]:
        made = [part(x) for part in self.parts]
        return [torch.cat([made[i] for i in which], 1) for which in self.joined]

    def groups(self) -> list[Group]:
        def cut(i: int) -> tuple[Slice, ...]:
            return tuple(Slice(f"parts.{i}.{p}", 0, gated=True) for p in ("weight", "bias"))

        return [Group(f"{i}", "part", part.out_features, cut(i)) for i, part in enumerate(self.parts)]


@pytest.mark.parametrize("units", [(4,) * 7, (2, 3, 4, 5, 6, 7, 8)])
def test_numbers_of_several_groups_are_told_apart(units: Sequence[int]) -> None:
    joined = [(0, 1), (1, 2, 3), range(7), (4, 4, 5), (6, 2), (5,), (0, 2, 4, 6, 6, 6)]
    network = Parts(units, joined).to("meta")
    traced = trace(network, network.groups(), lambda _: {"x": torch.zeros(2, 3)})
    found = [call.result[1] for call in traced.operations if call.function.overloadpacket.__name__ == "cat"]
    for number, which in zip(found, joined, strict=True):
        assert number.fixed == 0
        assert dict(number.slopes) == {i: [*which].count(i) for i in which}


class Counting(BranchNet):
    forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.forwards += 1
        return super().forward(x)


@pytest.mark.parametrize(("depth", "runs"), [(1, 2), (2, 3), (5, 4), (9, 5), (19, 6)])
def test_a_few_runs_tell_many_groups_apart(depth: int, runs: int) -> None:
    network = Counting(width=6, hidden=4, depth=depth).to("meta")
    Counting.forwards = 0
    trace(network, network.groups(), CASES["branches"][1])
    assert len(network.groups()) == depth + 1
    assert Counting.forwards == 1 + runs


def test_groups_of_one_unit_count_as_fixed() -> None:
    network = Parts((1, 3), [(0, 1)]).to("meta")
    traced = trace(network, network.groups(), lambda _: {"x": torch.zeros(2, 3)})
    assert traced.control_counts == [1, 1]
    assert traced.operations[-1].result[1] == AffineSize(1, ((1, 1),))


def test_runs_that_are_equally_long_stay_so() -> None:
    network = tiny_ostrack(dim=12, heads=3, depth=1)
    traced = trace(network, network.groups(), crops)
    assert traced.control.backbone.blocks[0].attn.widths == [2, 2, 2]
    assert traced.control_counts[0] == 6
    single = tiny_ostrack(dim=4, heads=4, depth=1).to("meta")
    traced = trace(single, single.groups(), crops)
    assert traced.control.backbone.blocks[0].attn.widths == [1, 0, 0, 1]
    assert any(0 in dict(n.slopes) for call in traced.operations for shape in call.tensors for n in shape)


def test_the_child_that_checks_is_another_one_than_those_that_were_looked_at() -> None:
    network = Parts((6, 9), [(0, 1)]).to("meta")
    traced = trace(network, network.groups(), lambda _: {"x": torch.zeros(2, 3)})
    assert traced.control_counts == [2, 3]
    assert [part.out_features for part in traced.control.parts] == [2, 3]


def test_operations_that_change_with_the_kept_units_are_refused() -> None:
    class Fickle(Parts):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [y.relu() if i == 1 and y.shape[1] == 6 else y for i, y in enumerate(super().forward(x))]

    network = Fickle((4, 6), [(0,), (1,)]).to("meta")
    with pytest.raises(ValueError, match=r"operations of Fickle change once units .* cut groups were \['1'\]"):
        trace(network, network.groups(), lambda _: {"x": torch.zeros(2, 3)})
    assert trace(network, network.groups()[:1], lambda _: {"x": torch.zeros(2, 3)}).operations


def test_a_record_keeps_the_arguments_of_its_operation() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).t().clamp(min=-1.5).sum(1, keepdim=True)

    network = Turned().double()
    group = Group("a", "mlp", 4, tuple(Slice(f"fc.{p}", 0, gated=True) for p in ("weight", "bias")))
    calls = {
        c.function.overloadpacket.__name__: c
        for c in trace(network, [group], lambda _: {"x": torch.zeros(2, 3).double()}).operations
    }
    clamp, total = calls["clamp"], calls["sum"]
    assert clamp.arguments[1] == -1.5
    assert clamp.tensors == [clamp.result] == [(AffineSize(0, ((0, 1),)), AffineSize(2))]
    assert [(layout.dtype, layout.order) for layout in clamp.layouts] == [(torch.float64, (1, 0))]
    assert True in total.arguments
    assert total.result == (AffineSize(0, ((0, 1),)), AffineSize(1))
