from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pruning.budget import RemovalRules, fit_plan, rounding
from pruning.budget.rounding import fast_multiples
from pruning.cost import MacCost, ParamCost, latency
from pruning.criteria.random import Random
from pruning.groups import Group
from pruning.pruner import Pruner
from tests.pruning.networks import BranchNet, crops, tiny_ostrack

X = {"x": torch.zeros(3, 6)}


class Seen(TorchDispatchMode):
    """Keeps the name of the last operation and the shapes of its tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.name, self.shapes = str(func), [a.shape for a in args if isinstance(a, Tensor)]
        return func(*args, **(kwargs or {}))


def by_blocks(of: int) -> Callable[[Seen], float]:
    """Returns the rule of a device whose kernels take their time in blocks: sizes up to a multiple cost the same."""
    return lambda seen: float(sum(torch.Size(of * ceil(n / of) for n in shape).numel() for shape in seen.shapes))


def by_heads(seen: Seen) -> float:
    """The time of attention is the number of its heads; nothing else takes any."""
    return float(seen.shapes[0][1]) if "attention" in seen.name else 0.0


def macs(call: Callable[[], Any], *_: Any, **__: Any) -> float:
    """Replacement of `latency.milliseconds`."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Seen], float]], list[Any]]:
    """Replaces the clock; returns the keys of all measured operations."""

    def build(rule: Callable[[Seen], float]) -> list[Any]:
        measured: list[Any] = []

        def times(calls: Mapping[Any, Callable[[], Any]], _: str) -> dict[Any, float]:
            measured.extend(calls)
            result = {}
            for name, call in calls.items():
                with Seen() as seen:
                    call()
                result[name] = rule(seen)
            return result

        monkeypatch.setattr(rounding, "_times_in_turns", times)
        return measured

    return build


def branches(depth: int = 2) -> BranchNet:
    return BranchNet(width=96, hidden=160, depth=depth)


@pytest.mark.parametrize("block", [1, 4, 8, 16])
def test_groups_get_the_blocks_of_the_kernels(block: int, device: Callable) -> None:
    device(by_blocks(block))
    network = branches()
    groups = network.groups()
    cost = MacCost(network, groups, lambda _: X)
    assert set(fast_multiples(network, groups, lambda _: X, cost, 0.25).values()) == {block}


def test_equal_operations_are_measured_once(device: Callable) -> None:
    counts = []
    for depth in (1, 4):
        measured, network = device(by_blocks(8)), branches(depth)
        fast_multiples(network, network.groups(), lambda _: X, ParamCost(network, network.groups()), 0.25)
        assert len(set(measured)) == len(measured)
        counts.append(len(measured))
    assert counts[0] == counts[1] > 0


def test_heads_leave_as_a_whole_if_each_has_its_price(device: Callable) -> None:
    device(by_heads)
    network = tiny_ostrack(dim=64, depth=1, heads=4)
    groups = network.groups()
    found = fast_multiples(network, groups, crops, ParamCost(network, groups), 0.4)
    assert found["backbone.blocks.0.attn"] == 16


def test_candidates_around_a_count_have_it_as_their_mean() -> None:
    for target, multiple, size in ((383.0, 1, 768), (50.3, 8, 64), (30.0, 16, 64), (60.0, 32, 64), (0.4, 1, 3)):
        pairs = list(rounding._odd_multiples(target, multiple, size))
        assert all(n == size or n % (2 * multiple) == multiple for n, _ in pairs)
        assert sum(w for _, w in pairs) == pytest.approx(1)
        assert sum(n * w for n, w in pairs) == pytest.approx(max(target, pairs[0][0]))


@pytest.mark.parametrize("ratio_of", ["params", "macs", "units", "latency"])
def test_any_budget_is_met_by_multiples_that_are_measured_once(
    ratio_of: str, device: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "milliseconds", macs)
    measured, network = device(by_blocks(8)), branches()
    pruner = Pruner(0.6, Random(0), ratio_of=ratio_of, round_to="auto")
    pruner.check(network, network.groups(), lambda _: X)
    assert (first := len(measured)) > 0
    pruner.attach(network, network.groups(), lambda _: X)
    pruner.update()
    assert len(measured) == first
    assert set(pruner.rules.round_to.values()) == {8}
    assert all(n % 8 == 0 for n in pruner.kept_counts().values())
    assert sum(pruner.kept_counts().values()) < sum(g.size for g in network.groups())
    assert pruner.ratio_achieved <= 0.6
    assert pruner.finish([X])["masked_vs_compacted"] < 1e-5
    other = BranchNet(width=32, hidden=64, depth=1)  # another network gets multiples of its own
    pruner.attach(other, other.groups(), lambda _: X)
    assert set(pruner.rules.round_to) == {g.name for g in other.groups()}


def test_without_inputs_the_message_says_what_to_give() -> None:
    network = branches()
    for call in (Pruner(0.5, Random(0), round_to="auto").check, Pruner(0.5, Random(0), round_to="auto").attach):
        with pytest.raises(ValueError, match=r"round_to=auto measures operations.*inputs=.*round_to=8"):
            call(network, network.groups())
    with pytest.raises(ValueError, match=r"round_to=fast must be a positive integer or auto"):
        Pruner(0.5, Random(0), round_to="fast")


def test_each_group_has_its_own_multiple() -> None:
    groups = [Group("a", "mlp", 20, ()), Group("b", "mlp", 20, ())]
    ranks = {g.name: torch.linspace(0, 1, g.size) for g in groups}
    plan = fit_plan(groups, ranks, sum, 0.5, RemovalRules(0.1, {"a": 4, "b": 1}))
    kept = [len(plan.units(g)) for g in groups]
    assert kept[0] % 4 == 0
    assert sum(kept) == 20
    with pytest.raises(ValueError, match=r"round_to=1, now 1 to 4 by group"):
        fit_plan(groups, ranks, sum, 0.01, RemovalRules(0.1, {"a": 4, "b": 1}))
    with pytest.raises(ValueError, match=r"round_to=0 must be"):
        RemovalRules(0.1, {"a": 0})


def test_multiples_are_measured_on_the_clock_of_the_machine() -> None:
    network = BranchNet(width=24, hidden=40, depth=1)
    found = fast_multiples(network, network.groups(), lambda _: X, ParamCost(network, network.groups()), 0.5)
    assert set(found.values()) <= set(rounding.MULTIPLES)
