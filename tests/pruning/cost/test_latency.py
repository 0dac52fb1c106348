import random
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruning.budget import RemovalRules, fit_plan
from pruning.cost import MacCost, latency
from pruning.cost.latency import SHARES, LatencyCost
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, Mixed, NormNet, Recipe, crops, tiny_ostrack

WHOLE = 20  # runs that the whole forward is timed in; that tells it from single operations


class Clock:
    """Replacement of the measurement: a rule gives the time of an operation.

    Attributes:
        measured: how many operations were timed.
    """

    def __init__(self, rule: Callable[[Callable[[], Any]], float], whole: float | None = None):
        self.rule, self.whole, self.measured = rule, whole, 0

    def __call__(self, call: Callable[[], Any], device: str, runs: int = 3) -> float:
        if runs == WHOLE:
            return self.rule(call) if self.whole is None else self.whole
        self.measured += 1
        return self.rule(call)


def macs(call: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


def entries(call: Callable[[], Any]) -> float:
    result = call()
    first = result[0] if isinstance(result, tuple | list) else result
    return float(first.numel())


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LatencyCost, Clock]]:
    def build(network: nn.Module, rule: Callable, whole: float | None = None, **x: Tensor) -> tuple[LatencyCost, Clock]:
        clock = Clock(rule, whole)
        monkeypatch.setattr(latency, "milliseconds", clock)
        return LatencyCost(network, network.groups(), lambda _: x), clock

    return build


def on_grid(group: Group) -> list[int]:
    return sorted({max(1, round(share * group.size)) for share in SHARES})


def test_times_of_products_are_exact_on_and_between_the_grid(clocked: Callable) -> None:
    """MACs of this network are products of counts of different groups, so interpolation is exact."""
    network, x = BranchNet(width=24, hidden=40, depth=2), torch.zeros(3, 6)
    groups = network.groups()
    cost, _ = clocked(network, macs, x=x)
    truth = MacCost(network, groups, lambda _: {"x": x})
    assert cost([40, 40, 24]) == pytest.approx(truth([40, 40, 24]))
    for kept in product(on_grid(groups[0]), on_grid(groups[1]), on_grid(groups[2])):
        assert cost(kept) == pytest.approx(truth(kept)), kept
    rng = random.Random(0)
    for _ in range(50):
        kept = [rng.randint(1, 40), rng.randint(1, 40), rng.randint(1, 24)]
        assert cost(kept) == pytest.approx(truth(kept)), kept
    assert cost([7.5, 3.25, 11.5]) == pytest.approx(truth([7.5, 3.25, 11.5]))


class Square(nn.Module):
    """Network with one product whose time grows with the square of the units."""

    def __init__(self, units: int = 64):
        super().__init__()
        self.net = NormNet(width=units, hidden=1, inputs=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.square(self.net.embed(x))

    def groups(self) -> list[Group]:
        return [g.with_prefix("net.") for g in self.net.groups() if g.kind == "width"]


def test_between_the_grid_times_are_interpolated(clocked: Callable) -> None:
    cost, _ = clocked(Square(), macs, x=torch.zeros(1, 1))

    def truth(n: float) -> float:
        return n + n * n

    for n in (2, 8, 16, 32, 48, 64):
        assert cost([n]) == pytest.approx(truth(n))
    for low, high in ((2, 8), (8, 16), (16, 32), (32, 48), (48, 64)):
        for way in (0.25, 0.5, 0.75):
            n = low + way * (high - low)
            assert cost([n]) == pytest.approx((1 - way) * truth(low) + way * truth(high))
    assert cost([1]) == cost([2])  # below the grid nothing gets cheaper


@pytest.mark.parametrize(
    ("build", "x"),
    [(ConvNet, torch.zeros(2, 3, 8, 8)), (BranchNet, torch.zeros(3, 6)), (NormNet, torch.zeros(3, 6))],
)
@pytest.mark.parametrize("seed", range(2))
def test_more_units_never_cost_less_however_the_clock_errs(
    build: type, x: Tensor, seed: int, clocked: Callable
) -> None:
    network, rng = build(), random.Random(seed)
    groups = network.groups()
    cost, _ = clocked(network, lambda call: rng.random(), whole=[0.1, 1e3][seed], x=x)
    for _ in range(20):
        kept = [rng.randint(0 if g.vanish is not None else 1, g.size) for g in groups]
        for i, group in enumerate(groups):
            along = [cost([*kept[:i], n, *kept[i + 1 :]]) for n in range(kept[i], group.size + 1)]
            assert all(a <= b * (1 + 1e-12) for a, b in pairwise(along)), group.name


def test_vanished_groups_take_no_time(clocked: Callable) -> None:
    network, x = BranchNet(width=24, hidden=40, depth=2), torch.zeros(3, 6)
    cost, _ = clocked(network, lambda call: 1.0, whole=1e-9, x=x)
    one, none = cost([1, 40, 24]), cost([0, 40, 24])
    # Both linear layers, and what lies between them. (The norm in front is of the stream, and stays.)
    assert one - none == pytest.approx(cost([40, 1, 24]) - cost([40, 0, 24]))
    assert 0 < none < one
    dense = cost([40, 40, 24])
    assert cost([0, 0, 24]) == pytest.approx(dense - 2 * (one - none))
    cost, _ = clocked(network, macs, x=x)
    assert cost([0, 0, 24]) == pytest.approx(3 * (6 * 24 + 24 * 2))
    assert cost([0.01, 0, 24]) > cost([0, 0, 24])


def test_groups_that_must_keep_a_unit_are_never_free(clocked: Callable) -> None:
    cost, _ = clocked(Square(), macs, x=torch.zeros(1, 1))
    assert cost([0]) == cost([2]) > 0


@pytest.mark.parametrize("whole", [1.0, 1e9])
def test_the_sum_is_what_the_whole_takes(whole: float, clocked: Callable) -> None:
    network, x = BranchNet(width=24, hidden=40, depth=2), torch.zeros(3, 6)
    plain, _ = clocked(network, macs, x=x)
    cost, _ = clocked(network, macs, whole=whole, x=x)
    dense, child = [40, 40, 24], [5, 40, 12]
    assert cost(dense) == pytest.approx(whole)
    if whole > plain(dense):  # what operations do not explain is there whatever is cut
        assert cost(dense) - cost(child) == pytest.approx(plain(dense) - plain(child), rel=1e-5)
    else:
        assert cost(child) / cost(dense) == pytest.approx(plain(child) / plain(dense))


def test_equal_operations_are_measured_once(clocked: Callable) -> None:
    measured = [
        clocked(BranchNet(width=24, hidden=40, depth=depth), entries, whole=1.0, x=torch.zeros(3, 6))[1].measured
        for depth in (1, 2, 6)
    ]
    assert measured[0] == measured[1] == measured[2] > 0
    _, other = clocked(BranchNet(width=24, hidden=40, depth=1), entries, whole=1.0, x=torch.zeros(4, 6))
    assert other.measured == measured[0]


def test_a_network_without_groups_has_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "milliseconds", Clock(macs))
    network = BranchNet()
    cost = LatencyCost(network, [], lambda _: {"x": torch.zeros(3, 6)})
    assert cost([]) == MacCost(network, [], lambda _: {"x": torch.zeros(3, 6)})([])


def test_ragged_heads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "milliseconds", Clock(lambda call: 1.0))
    network = tiny_ostrack(dim=32, depth=1, heads=2)
    assert LatencyCost(network, network.groups(), crops)([g.size for g in network.groups()]) == pytest.approx(1)
    compact(network, network.groups(), Plan({"backbone.blocks.0.attn": (*range(16), 16, 17, 18)}))
    with pytest.raises(ValueError, match=r"operations of OSTrackNetwork change once units of its groups are removed"):
        LatencyCost(network, network.groups(), crops)


def test_budgets_hold_in_time_as_well(clocked: Callable) -> None:
    network, x = BranchNet(width=24, hidden=40, depth=2), torch.zeros(3, 6)
    groups = network.groups()
    cost, _ = clocked(network, macs, whole=1e5, x=x)
    places = {g.name: torch.linspace(0, 1, g.size) for g in groups}
    sizes = [g.size for g in groups]
    for ratio in (0.95, 0.9):
        kept = [len(fit_plan(groups, places, cost, ratio, RemovalRules(0)).units(g)) for g in groups]
        assert cost(kept) <= ratio * cost(sizes)
        for i, n in enumerate(kept):
            assert n == sizes[i] or cost([k + (i == j) for j, k in enumerate(kept)]) > ratio * cost(sizes)
    with pytest.raises(ValueError, match="out of reach"):
        fit_plan(groups, places, cost, 0.5, RemovalRules(0))


def test_the_fastest_run_counts_and_short_ones_run_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(lengths: Sequence[float], **runs: int) -> tuple[float, int]:
        now, calls = [0.0], []

        def call() -> None:
            now[0] += lengths[min(len(calls), len(lengths) - 1)]
            calls.append(now[0])

        monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        return latency.milliseconds(call, "cpu", **runs), len(calls)

    assert timed([0.001, 5, 3, 4]) == (pytest.approx(3e3), 4)  # the first run warms up
    assert timed([1, 1, 1, 0.5, 1], runs=5) == (pytest.approx(500), 6)
    shortest, calls = timed([1e-6])
    assert shortest == pytest.approx(1e-3)
    assert 20 < calls <= 51


def test_latency_is_measured_on_the_clock_of_the_machine() -> None:
    recipe = Recipe(((6, 3, (4,)),), 2, 4, ((8, False),), 4)
    network = Mixed(recipe)
    groups = network.groups()
    cost = LatencyCost(network, groups, Mixed.inputs)
    sizes = [g.size for g in groups]
    dense = cost(sizes)
    assert isinstance(dense, float)
    assert 0 < dense < float("inf")
    assert cost([1] * len(groups)) <= dense
    plan = fit_plan(groups, {g.name: torch.linspace(0, 1, g.size) for g in groups}, cost, 1, earlier=Plan())
    assert [len(plan.units(g)) for g in groups] == sizes
