import pytest
import torch
from torch import Tensor, nn

from pruning.budget.ranking import check_ranking, quantile_ranks
from pruning.criteria import Magnitude
from pruning.groups import Group, Slice
from pruning.pruner import Pruner

GROUPS = [Group("a", "mlp", 2, ()), Group("b", "mlp", 1, ()), Group("c", "width", 3, ())]
SCORES = {"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([2.0]), "c": torch.tensor([30.0, 10.0, 4.0])}


BY_KIND = {"a": [5 / 6, 1 / 6], "b": [3 / 6], "c": [5 / 6, 3 / 6, 1 / 6]}
BY_LAYER = {"a": [3 / 4, 1 / 4], "b": [1 / 2], "c": [5 / 6, 3 / 6, 1 / 6]}
TOGETHER = {"a": [7 / 12, 1 / 12], "b": [3 / 12], "c": [11 / 12, 9 / 12, 5 / 12]}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"default": "global"}, TOGETHER),
        ({}, TOGETHER),
        ({"default": "kind"}, BY_KIND),
        ({"default": "layer"}, BY_LAYER),
        ({"default": "global", "width": "layer"}, BY_KIND),  # the pool that is left holds one kind
        ({"mlp": "layer"}, BY_LAYER),
    ],
)
def test_ranks_are_quantiles_within_each_pool(scope: dict[str, str], expected: dict[str, list[float]]) -> None:
    places = quantile_ranks(SCORES, GROUPS, scope)
    assert {name: place.tolist() for name, place in places.items()} == {
        name: pytest.approx(values) for name, values in expected.items()
    }


@pytest.mark.parametrize(
    ("normalise", "order"),
    [
        ("none", "abxyz"),  # a 0, b 1; x 2, y 4, z 6
        ("mean", "axyzb"),  # a 0, b 2; x 1/2, y 1, z 3/2
        ("max", "axybz"),  # a 0, b 1; x 1/3, y 2/3, z 1: of equals the first one leaves first
        ("zscore", "xaybz"),  # a -1, b 1; x -1.22, y 0, z 1.22
    ],
)
def test_normalised_scores_by_hand(normalise: str, order: str) -> None:
    groups = [Group("first", "mlp", 2, ()), Group("second", "mlp", 3, ())]
    scores = {"first": torch.tensor([0.0, 1.0]), "second": torch.tensor([2.0, 4.0, 6.0])}
    places = quantile_ranks(scores, groups, {}, normalise)
    by_place = sorted(zip(torch.cat([places["first"], places["second"]]).tolist(), "abxyz", strict=True))
    assert "".join(name for _, name in by_place) == order


def test_zscores_of_small_groups_are_not_smaller() -> None:
    """The deviation is that of the units at hand, not an estimate from a sample, which depends on their number."""
    groups = [Group("pair", "mlp", 2, ()), Group("six", "mlp", 6, ())]
    scores = {"pair": torch.tensor([0.0, 1.0]), "six": torch.tensor([-1.2, -1, -1, 1, 1, 1.2])}
    ranks = quantile_ranks(scores, groups, {}, "zscore")
    assert ranks["pair"].tolist() == pytest.approx([1.5 / 8, 6.5 / 8])  # the z-scores are 1 and, of 1 in six, 0.93


@pytest.mark.parametrize("normalise", ["none", "mean", "max", "zscore"])
def test_equal_scores_have_different_ranks_with_every_normalisation(normalise: str) -> None:
    for value in (0.0, 3.0):
        places = quantile_ranks({g.name: torch.full((g.size,), value) for g in GROUPS}, GROUPS, {}, normalise)
        assert sorted(torch.cat([*places.values()]).tolist()) == pytest.approx([(i + 0.5) / 6 for i in range(6)])


@pytest.mark.parametrize("normalise", ["mean", "max", "zscore"])
def test_the_size_of_a_groups_scores_does_not_matter_once_they_are_normalised(normalise: str) -> None:
    larger = SCORES | {"a": 1000 * SCORES["a"]}
    places, same = (quantile_ranks(scores, GROUPS, {}, normalise) for scores in (SCORES, larger))
    assert all(torch.equal(places[name], same[name]) for name in places)
    raw, other = quantile_ranks(SCORES, GROUPS, {}), quantile_ranks(larger, GROUPS, {})
    assert not torch.equal(raw["a"], other["a"])


def test_raw_norms_empty_a_layer_of_small_units_and_relative_ones_do_not() -> None:
    """Units of the first layer have 73 weights, those of the second 11, so raw norms reflect sizes."""
    layers = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    generator = torch.Generator().manual_seed(0)
    for p in layers.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    groups = [
        Group(
            f"layer{i}",
            "hidden",
            8,
            (*(Slice(f"{i}.{p}", 0, gated=True) for p in ("weight", "bias")), Slice(f"{i + 1}.weight", 1)),
            vanish=(),
        )
        for i in (0, 1)
    ]
    kept = {}
    for normalise in ("none", "mean"):
        pruner = Pruner(0.5, Magnitude(), ratio_of="units", normalise=normalise, floor=0)
        pruner.attach(layers, groups)
        pruner.update()
        kept[normalise] = pruner.kept_counts()
    assert kept["none"] == {"layer0": 8, "layer1": 0}
    assert min(kept["mean"].values()) >= 2


def test_equal_shares_of_pools_are_worth_the_same() -> None:
    groups = [Group("a", "mlp", 1000, ()), Group("b", "width", 10, ())]
    places = quantile_ranks({"a": torch.rand(1000) * 9, "b": torch.rand(10)}, groups, {"default": "layer"})
    for place in places.values():
        assert float((place > 0.7).float().mean()) == pytest.approx(0.3)
        assert 0 < float(place.min()) < float(place.max()) < 1


def test_unknown_scopes_and_normalisations_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"scope lists \['attn'\], but .* kinds \['mlp', 'width'\]"):
        quantile_ranks(SCORES, GROUPS, {"attn": "layer"})
    for call in (lambda *given: quantile_ranks(SCORES, GROUPS, *given), check_ranking):
        with pytest.raises(ValueError, match=r"pruning.scope of 'mlp' is 'local'; .* \('global', 'kind', 'layer'\)"):
            call({"mlp": "local"}, "none")
        with pytest.raises(ValueError, match=r"pruning.scope of 'default' is 'local'"):
            call({"default": "local"}, "none")
        with pytest.raises(ValueError, match=r"normalise=l2 is not known; .* \('none', 'mean', 'max', 'zscore'\)"):
            call({}, "l2")


def test_equal_scores_rank_in_their_order_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sort of a GPU leaves equal scores in any order unless it is asked to be stable; here it reverses them."""
    argsort = Tensor.argsort

    def unstable(tensor: Tensor, stable: bool = False) -> Tensor:
        return argsort(tensor, stable=True) if stable else len(tensor) - 1 - argsort(tensor.flip(0), stable=True)

    monkeypatch.setattr(Tensor, "argsort", unstable)
    groups = [Group("a", "kind", 3, ()), Group("b", "kind", 2, ())]
    ranks = quantile_ranks({"a": torch.zeros(3), "b": torch.tensor([0.0, -1])}, groups, {"default": "global"}, "none")
    assert ranks["a"].tolist() == pytest.approx([0.3, 0.5, 0.7])
    assert ranks["b"].tolist() == pytest.approx([0.9, 0.1])
