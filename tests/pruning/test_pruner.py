import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning.cost import MacCost, ParamCost, UnitCost, count_macs
from pruning.criteria import Criterion, Magnitude, Random, Slim
from pruning.gates import Gates
from pruning.plan import Plan
from pruning.pruner import Pruner
from tests.pruning.networks import ConvNet, compacted, crops, shake, tiny_ostrack
from tests.pruning.training import MapBranches, MapConv, MapNet, assert_same, draws


class Told(Criterion):
    """Criterion with given scores by group, 1 for other groups."""

    def __init__(self, **scores: list[float]):
        self.scores = scores

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        return {g.name: torch.tensor(self.scores.get(g.name, [1.0] * g.size)) for g in gates.groups}


def pruner(ratio: float = 0.4, criterion: Criterion | None = None, **options: Any) -> Pruner:
    defaults = {"floor": 0.05, "normalise": "mean"}
    return Pruner(ratio, criterion or Magnitude(), **(defaults | options))


def attached(given: Pruner) -> tuple[MapNet, Pruner]:
    """Returns an untrained network and its attached pruner."""
    network = shake(MapNet(width=12, hidden=16).double(), 3)
    given.attach(network, network.groups())
    return network, given


# From scores to a cut network


def test_a_network_can_be_pruned_without_a_training() -> None:
    network, pruning = attached(pruner())
    cost = ParamCost(network, network.groups())
    for ratio in (0.7, 0.4):
        pruning.update(ratio)
        kept = [len(pruning.plan.units(g)) for g in network.groups()]
        assert pruning.kept_counts() == dict(zip(("hidden", "width"), kept, strict=True))
        assert ratio - 0.06 < cost(kept) / cost([16, 12]) <= ratio
        assert pruning.ratio_achieved == cost(kept) / cost([16, 12])
        assert int(pruning.gates.mask.sum()) == sum(kept)
    report = pruning.finish(draws(3))
    assert report["masked_vs_compacted"] < 1e-12
    assert report["ratio_achieved"] == cost(kept) / cost([16, 12])
    assert [g.size for g in network.groups()] == kept
    assert not hasattr(pruning, "gates")


def test_the_final_ratio_is_that_of_an_update_without_one() -> None:
    (_, first), (_, second) = attached(pruner(0.55)), attached(pruner(0.3))
    first.update()
    second.update(0.55)
    assert first.plan == second.plan
    assert first.plan.kept
    assert first.planned_ratio == 0.55


def test_the_masked_network_computes_what_the_cut_one_will() -> None:
    network, pruning = attached(pruner())
    pruning.update()
    with torch.no_grad(), pruning.gates.folded():
        masked = network(**draws(1)[0])["out"]
    pruning.finish(draws(1))
    torch.testing.assert_close(network(**draws(1)[0])["out"], masked, rtol=1e-11, atol=1e-11)


def test_the_mask_holds_while_the_ratio_stands_still() -> None:
    network, pruning = attached(pruner(regrow=True))
    pruning.update(0.4)
    plan, mask = pruning.plan, pruning.gates.mask.clone()
    shake(network, 5)
    pruning.update(0.4)
    pruning.update()
    assert pruning.plan == plan
    assert torch.equal(pruning.gates.mask, mask)
    pruning.update(0.399)
    assert pruning.plan != plan


def test_attaching_to_another_network_starts_anew() -> None:
    _, pruning = attached(pruner())
    pruning.update(0.4)
    plan = pruning.plan
    other = shake(MapNet(width=12, hidden=16).double(), 4)
    pruning.attach(other, other.groups())
    assert pruning.plan == Plan()
    pruning.update(0.4)
    assert pruning.plan not in (plan, Plan())
    assert not pruning.gates.mask.all()


def test_the_cost_of_another_network_is_found_anew() -> None:
    """Network whose groups may be equal to those of another network although other layers are larger."""
    small, large = MapNet(width=12, hidden=16), MapNet(width=12, hidden=16, inputs=60)
    assert small.groups() == large.groups()
    pruning = pruner()
    for network in (small, large):
        pruning.attach(network, network.groups())
        pruning.update()
        left = ParamCost(network, network.groups())([*pruning.kept_counts().values()])
        assert pruning.ratio_achieved == pytest.approx(left / sum(p.numel() for p in network.parameters()))
        assert pruning.ratio_achieved <= 0.4


@pytest.mark.parametrize("kept_gates", ["fold", "one"])
def test_what_kept_gates_have_learned_is_folded_or_left_behind(kept_gates: str) -> None:
    network, pruning = attached(pruner(criterion=Slim(), kept_gates=kept_gates))
    values = torch.rand(28, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.2
    pruning.gates.values.data.copy_(values)
    pruning.update(0.4)
    expected = Gates(copy.deepcopy(network), network.groups())
    expected.close(pruning.plan)
    if kept_gates == "fold":
        expected.values.data.copy_(values)
    child = compacted(expected.network, expected, pruning.plan)
    assert pruning.finish(draws(1))["masked_vs_compacted"] < 1e-12
    assert_same(network.state_dict(), child.state_dict())


def test_a_plan_that_empties_branches_is_finished() -> None:
    """Scores the residual stream highest, and later branches higher than earlier ones."""
    network = shake(MapBranches(width=12, hidden=4).double())
    dense, groups = sum(p.numel() for p in network.parameters()), network.groups()
    order = Told(**{g.name: [float(i)] * g.size for i, g in enumerate(groups)})
    pruning = Pruner(0.2, order, floor=0.0)
    pruning.attach(network, groups)
    pruning.update()
    kept = [*pruning.kept_counts().values()]
    assert kept[:3] == [0, 0, 0]
    assert 0 < kept[3] < 12
    report = pruning.finish(draws(3))
    assert report["masked_vs_compacted"] < 1e-12
    left = sum(p.numel() for p in network.parameters())
    assert report["ratio_achieved"] == left / dense <= 0.2
    assert not any(isinstance(m, nn.LayerNorm) for m in network.branches[0].modules())


# Rules of removal


def test_protected_groups_stay_whole() -> None:
    network = shake(MapBranches(width=12, hidden=16, depth=4).double())
    names = [g.name for g in network.groups()]
    assert names == [*(f"branches.{i}" for i in range(4)), "width"]
    for protect, chosen in (
        ([], names),
        (["width"], names[:4]),
        (["branches.*"], ["width"]),
        (["branches.0", "branches.[23]"], ["branches.1", "width"]),
    ):
        pruning = pruner(0.75, protect=protect)
        pruning.check(network, network.groups())
        pruning.attach(network, network.groups())
        assert [g.name for g in pruning.gates.groups] == chosen
        pruning.update()
        assert set(pruning.plan.kept) == set(chosen)
        assert sum(pruning.kept_counts().values()) < sum(pruning.gates.sizes)
    assert pruning.ratio_achieved <= 0.75  # of the whole network, although half of it is protected
    report = pruning.finish(draws(1))
    assert report["masked_vs_compacted"] < 1e-12
    assert [g.size for g in network.groups()][:4:2] == [16, 16]
    assert network.groups()[1].size < 16


def test_protecting_what_does_not_exist_is_refused() -> None:
    network = MapBranches()
    for pattern in ("branches", "branches.7", "Width"):
        with pytest.raises(ValueError, match=rf"pruning.protect={pattern} is no group; the groups are \['branches.0'"):
            pruner(protect=["width", pattern]).attach(network, network.groups())


def test_only_chosen_kinds_are_pruned() -> None:
    network = shake(MapNet(width=12, hidden=16).double(), 3)
    pruning = pruner(0.8, kinds=["hidden"])
    pruning.attach(network, network.groups())
    pruning.update()
    assert set(pruning.plan.kept) == {"hidden"}
    assert pruning.kept_counts()["hidden"] < 16
    assert not pruner(kinds=["hidden"], protect=["hid*"]).select(network.groups())


def test_wrong_settings_are_refused_before_training() -> None:
    network = MapNet()
    groups = network.groups()
    for ratio in (25, 1.0001, 0, -0.1, float("nan"), "half"):
        with pytest.raises(ValueError, match=rf"ratio={ratio} must lie in \(0, 1\]"):
            pruner(ratio)
    with pytest.raises(ValueError, match=r"ratio_of=flops is not known; .*\('params', 'macs', 'units', 'latency'\)"):
        pruner(ratio_of="flops")
    with pytest.raises(ValueError, match=r"kept_gates=half is not known; choose one of \('fold', 'one'\)"):
        pruner(kept_gates="half")
    with pytest.raises(ValueError, match="normalise=l2 is not known"):
        pruner(normalise="l2")
    with pytest.raises(ValueError, match="scope of 'width' is 'local'"):
        pruner(scope={"width": "local"})
    with pytest.raises(ValueError, match=r"floor=1\.5 must lie in"):
        pruner(floor=1.5)
    with pytest.raises(ValueError, match="round_to=0 must be a positive integer"):
        pruner(round_to=0)
    misspelt = {
        "kinds": pruner(kinds=["hiddn"]),
        "scope": pruner(scope={"hiddn": "layer"}),
        "criterion.penalty": pruner(criterion=Slim(penalty={"hiddn": 1.0})),
    }
    for option, pruning in misspelt.items():
        for call in (pruning.check, pruning.attach):
            with pytest.raises(ValueError, match=rf"pruning.{option} names \['hiddn'\].*\['hidden', 'width'\]"):
                call(network, groups)
    with pytest.raises(ValueError, match=r"pruning.kinds names \['attention'\]"):
        pruner(kinds=["attention"]).check(network, groups)
    elsewhere = {"scope": {"default": "kind", "attention": "layer"}, "criterion": Slim(penalty={"attention": 2.0})}
    pruner(**elsewhere).check(network, groups)  # settings for kinds that only other networks have
    with pytest.raises(ValueError, match="out of reach"):
        pruner(0.01).check(network, groups)
    pruner(0.5).check(network, groups)


@pytest.mark.parametrize("seed", range(3))
def test_groups_and_heads_keep_multiples_of_8_or_everything(seed: int) -> None:
    network = shake(tiny_ostrack(dim=48, heads=2, mlp_ratio=2.0, head_channels=(20, 8)).double())
    pruning = Pruner(0.5, Random(seed), round_to=8)
    pruning.attach(network, network.groups())
    cut = 0
    for ratio in (0.8, 0.5):
        pruning.update(ratio)
        for group in pruning.gates.groups:
            runs, begin = group.runs or (group.size,), 0
            for run in runs:
                kept = sum(begin <= u < begin + run for u in pruning.plan.units(group))
                assert kept % 8 == 0 or kept == run, group.name
                cut += kept < run
                begin += run
        assert ratio - 0.15 < pruning.ratio_achieved <= ratio
    assert cut > 4
    attention = next(g for g in pruning.gates.groups if g.kind == "attention")
    assert attention.runs == (24, 24)
    assert pruning.finish([crops(network)])["masked_vs_compacted"] < 1e-10


def test_without_rounding_some_counts_are_no_multiples_of_8() -> None:
    network = shake(tiny_ostrack(dim=48, heads=2, mlp_ratio=2.0, head_channels=(20, 8)))
    pruning = Pruner(0.5, Random(0))
    pruning.attach(network, network.groups())
    pruning.update()
    assert any(n % 8 for n in pruning.kept_counts().values())


@pytest.mark.parametrize("round_to", [1, 4])
def test_removed_units_stay_removed_while_scores_change(round_to: int) -> None:
    pruning, masks = pruner(criterion=Random(0), round_to=round_to), []
    attached(pruning)
    for seed, ratio in enumerate((0.9, 0.7, 0.55, 0.4)):
        pruning.criterion = Random(seed)
        pruning.update(ratio)
        masks.append(pruning.gates.mask.bool().clone())
        assert pruning.ratio_achieved <= ratio
    assert not any((after & ~before).any() for before, after in pairwise(masks))
    assert masks[-1].sum() < masks[1].sum() < masks[0].sum()


def test_units_return_where_regrowing_is_allowed() -> None:
    low, high = [float(u) for u in range(16)], [float(16 - u) for u in range(16)]
    kept = {}
    for regrow in (False, True):
        _, pruning = attached(pruner(ratio_of="units", criterion=Told(hidden=low), regrow=regrow, kinds=["hidden"]))
        pruning.update(0.5)
        assert pruning.plan.kept["hidden"] == tuple(range(8, 16))
        pruning.criterion = Told(hidden=high)
        pruning.update(0.25)
        kept[regrow] = pruning.plan.kept["hidden"]
    assert kept == {False: (8, 9, 10, 11), True: (0, 1, 2, 3)}


# The quantity that the ratio refers to


@pytest.mark.parametrize("ratio_of", ["macs", "latency"])
def test_the_cost_of_a_forward_needs_its_inputs(ratio_of: str) -> None:
    network = MapNet()
    for call in (pruner(ratio_of=ratio_of).check, pruner(ratio_of=ratio_of).attach):
        with pytest.raises(ValueError, match=rf"pruning.ratio_of={ratio_of} needs the arguments of a forward"):
            call(network, network.groups())


FORWARDS = {
    "norms": (lambda: MapNet(width=12, hidden=16), lambda network: draws(1)[0]),
    "branches": (lambda: MapBranches(width=12, hidden=16), lambda network: draws(1)[0]),
    "pictures": (MapConv, lambda network: draws(1)[0]),
    "cnn": (ConvNet, lambda network: {"x": torch.ones(2, 3, 8, 8, dtype=torch.float64)}),
    "ostrack": (lambda: tiny_ostrack(head_channels=(8, 8)), lambda network: crops(network, batch=1)),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_the_ratio_may_be_of_the_macs_of_a_forward(name: str) -> None:
    build, inputs = FORWARDS[name]
    network = shake(build().double()).eval()
    dense = count_macs(network, inputs(network)).total
    pruning = pruner(0.5, ratio_of="macs")
    pruning.check(network, network.groups(), inputs)
    pruning.attach(network, network.groups(), inputs)
    assert isinstance(pruning.cost, MacCost)
    pruning.update()
    report = pruning.finish([inputs(network)])
    left = count_macs(network, inputs(network)).total
    assert report["masked_vs_compacted"] < 1e-10
    assert report["ratio_achieved"] == pytest.approx(left / dense, rel=1e-12)
    assert 0.4 < left / dense <= 0.5


def test_the_ratio_may_be_of_units_whatever_they_weigh() -> None:
    _, pruning = attached(pruner(ratio_of="units"))
    pruning.update()
    assert isinstance(pruning.cost, UnitCost)
    assert sum(pruning.kept_counts().values()) == int(0.4 * 28)


# The check at the end


class Choosy(MapNet):
    """Network with an error in its output in some calls, like a discrete choice that rounding flips."""

    def __init__(self, errors: dict[int, float]):
        super().__init__(width=12, hidden=16)
        self.errors, self.calls = errors, 0
        shake(self.double(), 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = super().forward(x)
        self.calls += 1
        return out | {"out": out["out"] + self.errors.get(self.calls - 1, 0.0)}


def test_a_flip_on_one_draw_passes_and_on_most_it_does_not() -> None:
    few, most, infinite = {3: 1.0, 4: 1.0}, {5: 1.0, 6: 1.0, 7: 1.0}, {7: float("inf")}  # 5 masked calls, 5 compacted
    for errors, shown in ((few, None), (most, r"\d\.\de[+-]\d\d"), (infinite, "inf"), ({7: float("nan")}, "nan")):
        network, pruning = Choosy(errors), pruner()
        pruning.attach(network, network.groups())
        pruning.update()
        if shown is None:
            assert pruning.finish(draws(5))["masked_vs_compacted"] < 1e-12
        else:
            with pytest.raises(RuntimeError, match=f"differs from the masked one by {shown} relative"):
                pruning.finish(draws(5))
        assert network.calls == (10 if shown is None else 0)  # after an error the network is as it was


def test_outputs_of_zeros_are_the_same() -> None:
    network, pruning = attached(pruner())
    network.out.weight.data.zero_()
    network.out.bias.data.zero_()
    pruning.update()
    assert pruning.finish(draws(1))["masked_vs_compacted"] == 0


def test_finishing_without_inputs_is_refused_before_anything_is_cut() -> None:
    network, pruning = attached(pruner())
    pruning.update()
    with pytest.raises(ValueError, match="leaves nothing to compare"):
        pruning.finish([])
    assert [g.size for g in network.groups()] == [16, 12]


def test_a_finish_while_units_are_on_their_way_cuts_them() -> None:
    network, pruning = attached(pruner())
    pruning.update()
    pruning.gates.close(pruning.plan, Plan(), progress=0.5)
    assert pruning.finish(draws(1))["masked_vs_compacted"] < 1e-12
    assert {g.name: g.size for g in network.groups()} == {g: len(units) for g, units in pruning.plan.kept.items()}
