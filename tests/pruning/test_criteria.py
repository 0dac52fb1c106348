import pytest
import torch
from torch import nn

from pruning.criteria import Magnitude, NetworkSlimming, Slim, quantiles
from pruning.gates import Gates
from pruning.groups import Group, Slice
from pruning.plan import Plan
from tests.pruning.networks import ConvNet, shake, tiny_ostrack


def test_magnitude_by_hand() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(6, 1))
    network[0].weight.data = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    network[0].bias.data = torch.tensor([4.0, 0.0, 1.0])
    network[1].weight.data = torch.tensor([0.0, 1.0, 4.0])
    network[1].bias.data = torch.tensor([12.0, 1.0, 0.0])
    network[1].running_var.fill_(100.0)
    network[2].weight.data = torch.tensor([[0.0, 0.0, 1.0, 0.0, 12.0, 0.0]])
    bn = tuple(Slice(f"1.{p}", 0, gated=True) for p in ("weight", "bias"))
    buffers = tuple(Slice(f"1.{b}", 0) for b in ("running_mean", "running_var"))
    cut = (Slice("0.weight", 0), Slice("0.bias", 0), *bn, *buffers, Slice("2.weight", 1, inner=2))
    gates = Gates(network, [Group("g", "mlp", 3, cut)])
    norms = torch.tensor([9.0 + 16 + 144, 1.0 + 1 + 1 + 1, 8.0 + 1 + 16 + 144]).sqrt()
    torch.testing.assert_close(Magnitude()(gates)["g"], norms / norms.mean())


def test_magnitude_sums_over_offsets() -> None:
    network = tiny_ostrack(dim=4, depth=1, heads=2)
    shake(network)
    attn = network.backbone.blocks[0].attn
    qkv, proj, bias = attn.qkv.weight.detach(), attn.proj.weight.detach(), attn.qkv.bias.detach()
    squares = sum(qkv[r : r + 4].square().sum(1) + bias[r : r + 4].square() for r in (0, 4, 8))
    norms = (squares + proj.square().sum(0)).sqrt()
    score = Magnitude()(Gates(network, network.groups()))["backbone.blocks.0.attn"]
    torch.testing.assert_close(score, norms / norms.mean())


def test_magnitude_ignores_statistics_gates_and_scale() -> None:
    network = shake(ConvNet())
    gates = Gates(network, network.groups())
    before = Magnitude()(gates)
    assert all(float(s.mean()) == pytest.approx(1) for s in before.values())
    network.bn1.running_var.mul_(50)
    gates.values.data.uniform_(0.1, 2)
    gates.close(Plan({"inner": (0,)}))
    for p in network.parameters():
        p.data.mul_(3)
    for name, score in Magnitude()(gates).items():
        torch.testing.assert_close(score, before[name])
    assert not Magnitude.learns_gates


def test_slim_is_the_size_of_the_gates() -> None:
    network = ConvNet()
    gates = Gates(network, network.groups())
    gates.values.data = torch.linspace(-1, 1, len(gates.values))
    scores = Slim()(gates)
    assert Slim.learns_gates
    assert torch.equal(torch.cat([scores[g.name] for g in network.groups()]), gates.values.detach().abs())


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
    assert torch.equal(scores["hidden"], Magnitude()(gates)["hidden"])  # linear layers have no scales
    assert not NetworkSlimming.learns_gates


def test_slimming_takes_the_entries_of_a_unit_together() -> None:
    network = nn.Sequential(nn.Linear(2, 12), nn.BatchNorm1d(12), nn.Linear(12, 1))
    network[1].weight.data = torch.tensor([1.0, -2, 0, 3, 0, 0, 4, 0, 0, -5, 0, 0])
    cut = [Slice(f"{name}.weight", dim, (0, 6), 2, name == "2") for name, dim in (("0", 0), ("1", 0), ("2", 1))]
    gates = Gates(network, [Group("g", "mlp", 3, tuple(cut))])
    assert NetworkSlimming()(gates)["g"].tolist() == [4.0, 5.0, 0.0]
    network[1].weight.grad = torch.zeros(12)
    NetworkSlimming().penalise(gates, torch.tensor([1.0, 10.0, 100.0]))
    assert network[1].weight.grad.tolist() == [1, -1, 0, 10, 0, 0, 1, 0, 0, -10, 0, 0]


def test_slimming_without_trainable_norms_is_magnitude() -> None:
    network = tiny_ostrack()
    groups = [g for g in network.groups() if g.kind != "tower"]
    gates = Gates(shake(network), groups)
    scores, norms = NetworkSlimming()(gates), Magnitude()(gates)
    assert scores.keys() == norms.keys()
    assert all(torch.equal(scores[name], norm) for name, norm in norms.items())


def test_each_criterion_penalises_what_it_ranks() -> None:
    network = shake(ConvNet())
    groups = network.groups()
    gates = Gates(network, groups)
    gates.values.data.uniform_(-1, 1)
    network.bn3.weight.requires_grad_(False)  # frozen scales are left alone
    weights = torch.cat([torch.full((g.size,), float(i + 1)) for i, g in enumerate(groups)])
    for criterion in (Slim(), Magnitude(), NetworkSlimming()):
        for p in (*network.parameters(), gates.values):
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        criterion.penalise(gates, weights)
        changed = {name: p.grad for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        slims, learns = isinstance(criterion, NetworkSlimming), criterion.learns_gates
        assert changed.keys() == ({"bn0.weight", "bn1.weight", "bn2.weight"} if slims else set())
        for name, grad in changed.items():
            weight = 2.0 if name == "bn1.weight" else 1.0
            assert torch.equal(grad, weight * network.get_parameter(name).sign())
        assert torch.equal(gates.values.grad, weights * gates.values.sign() if learns else torch.zeros_like(weights))


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
def test_places_within_each_pool(scope: dict[str, str], expected: dict[str, list[float]]) -> None:
    places = quantiles(SCORES, GROUPS, scope)
    assert {name: place.tolist() for name, place in places.items()} == {
        name: pytest.approx(values) for name, values in expected.items()
    }


def test_equal_shares_of_pools_are_worth_the_same() -> None:
    groups = [Group("a", "mlp", 1000, ()), Group("b", "width", 10, ())]
    places = quantiles({"a": torch.rand(1000) * 9, "b": torch.rand(10)}, groups, {"default": "layer"})
    for place in places.values():
        assert float((place > 0.7).float().mean()) == pytest.approx(0.3)
        assert 0 < float(place.min()) < float(place.max()) < 1


def test_unknown_kinds_and_scopes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scope names \['attn'\], but .* kinds \['mlp', 'width'\]"):
        quantiles(SCORES, GROUPS, {"attn": "layer"})
    with pytest.raises(ValueError, match="scope of 'mlp' is 'local'; choose global, kind or layer"):
        quantiles(SCORES, GROUPS, {"default": "local"})
