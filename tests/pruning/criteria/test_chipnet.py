import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruning.cost import ParamCost, Polynomial, UnitCost
from pruning.criteria.chipnet import ChipNet, Hardening, Sharpness, heaviside, logistic, remaining_cost
from pruning.errors import PruningError
from pruning.gates import Gates
from tests.pruning.networks import ConvNet, shake


def started(method: ChipNet, ratio: float = 0.5, steps: int = 10, cost: type[Polynomial] = ParamCost) -> Gates:
    network = shake(ConvNet().double()).eval()
    gates = Gates(network, network.groups())
    method.start(gates, cost(network, gates.groups), ratio, steps)
    return gates


def task(outputs: dict[str, Tensor]) -> Tensor:
    return (outputs["out"] - 0.1).square().sum()


def images() -> Tensor:
    return torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def step(gates: Gates, method: ChipNet, progress: float) -> None:
    method.before_step(gates, progress)
    gates.fold()
    task(gates.network(images())).backward()
    gates.unfold()
    method.after_step(gates)
    gates.network.zero_grad()
    gates.values.grad = None


def gated(gates: Gates, z: Tensor) -> dict[str, Tensor]:
    """Returns the weights of the network as functions of the gates."""
    weights = {name: p.detach() for name, p in gates.network.named_parameters()}
    for group, part in zip(gates.groups, z.split(gates.sizes), strict=True):
        for s in (s for s in group.slices if s.gated):
            entries = weights[s.path].movedim(s.dim, -1)
            factors = torch.ones(entries.shape[-1], dtype=z.dtype)
            for positions in s.positions(torch.arange(group.size)):
                factors = factors.index_put((positions,), part.repeat_interleave(s.inner))
            weights[s.path] = (entries * factors).movedim(-1, s.dim)
    return weights


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.9])
def test_psi_gets_the_gradient_of_the_whole_loss(progress: float) -> None:
    method = ChipNet(budget=3, crispness=2)
    gates = started(method, ratio=0.4)
    method.psi.data.uniform_(-3, 1, generator=torch.Generator().manual_seed(0))
    psi, now = method.psi.detach().clone().requires_grad_(), method.hardening(progress)
    z_i = logistic(psi, now.beta)
    z_t = heaviside(z_i, now.gamma)
    loss = task(functional_call(gates.network, gated(gates, z_t), (images(),)))
    left = remaining_cost(method.cost, z_t, gates.sizes, now.steepness)
    (loss + 3 * (left - 0.4) ** 2 + 2 * (z_t - z_i).square().mean()).backward()
    step(gates, method, progress)
    assert psi.grad.abs().min() > 0
    torch.testing.assert_close(method.psi.grad, psi.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.3])
def test_the_budget_drives_gates_to_the_ratio(ratio: float) -> None:
    method = ChipNet(crispness=0)
    gates = started(method, ratio, steps=300, cost=UnitCost)
    use = torch.rand(len(gates.values), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for i in range(300):
        method.before_step(gates, i / 300)
        gates.values.grad = -0.01 * use
        method.after_step(gates)
    z = method.soft_gates()[1].detach()
    assert float(remaining_cost(method.cost, z, gates.sizes, 60)) == pytest.approx(ratio, abs=2 / len(z))
    kept = z > 0.5
    assert use[kept].mean() > use[~kept].mean()


def test_gates_start_open_and_equal_and_follow_the_seed() -> None:
    psi = []
    for seed in (0, 0, 1):
        method = ChipNet(seed=seed)
        gates = started(method)
        method.before_step(gates, 0.0)
        assert float((gates.values.detach() - 0.7).abs().max()) < 0.002
        assert 0 <= float(method.psi.detach().min()) <= float(method.psi.detach().max()) < 0.01
        psi.append(method.psi.detach())
    assert torch.equal(psi[0], psi[1])
    assert not torch.equal(psi[0], psi[2])


def test_gates_harden_whatever_the_length_of_the_stage() -> None:
    hardening = Hardening()
    assert hardening(0) == Sharpness(1, 2, 10)
    assert hardening(1) == Sharpness(1.4, 256, 60)
    for steps in (120, 281_250):
        assert hardening((steps // 2) / steps) == Sharpness(1.2, 64, 60)
        assert hardening((steps // 2 - 1) / steps).gamma == pytest.approx(64 / 2**0.5)
    assert all(hardening(epoch / 20) == Hardening(60)(epoch / 60) for epoch in range(20))


def test_scores_rank_gates_that_are_equal_in_float32() -> None:
    method = ChipNet()
    gates = started(method)
    method.psi.data = torch.linspace(-8, 28, len(gates.values))
    method.before_step(gates, 1.0)
    assert int((gates.values == 1).sum()) > 10
    scores = torch.cat(list(method(gates).values()))
    assert list(method(gates)) == [g.name for g in gates.groups]
    assert bool((scores.diff() > 0).all())
    assert bool((scores >= 0).all())


def test_psi_travels_as_far_in_short_stages_as_in_long_ones() -> None:
    for steps in (20, 200):
        method = ChipNet(budget=0, crispness=0, travel=3)
        gates = started(method, steps=steps)
        for _ in range(steps):
            method.before_step(gates, 0.0)
            z_i, z_t = method.soft_gates()
            gates.values.grad = 1 / torch.autograd.grad(z_t.sum(), z_i)[0] / (z_i * (1 - z_i)).detach()
            method.after_step(gates)
        torch.testing.assert_close(method.psi.mean().item(), -3 + 0.005, rtol=0, atol=0.01)


def test_a_resumed_stage_goes_on_the_same() -> None:
    method = ChipNet()
    gates = started(method)
    for i in range(4):
        step(gates, method, i / 10)
    state = copy.deepcopy(method.state_dict())
    for i in range(4, 10):
        step(gates, method, i / 10)
    again = ChipNet(seed=7)
    resumed = started(again)
    again.load_state_dict(state)
    for i in range(4, 10):
        step(resumed, again, i / 10)
    assert torch.equal(again.psi, method.psi)
    assert torch.equal(resumed.values, gates.values)
    for name, scores in method(gates).items():
        assert torch.equal(again(resumed)[name], scores)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_overflowed_move_nothing(bad: float) -> None:
    method = ChipNet()
    gates = started(method)
    step(gates, method, 0.0)
    before = copy.deepcopy(method.state_dict())
    method.before_step(gates, 0.1)
    gates.values.grad = torch.ones_like(gates.values)
    gates.values.grad[3] = bad
    method.after_step(gates)
    assert torch.equal(method.psi, before["psi"])
    assert method.optimizer.state_dict()["state"][0]["step"] == before["optimizer"]["state"][0]["step"]


def test_gradients_are_taken_where_they_are_off() -> None:
    method = ChipNet()
    gates = started(method)
    method.before_step(gates, 0.0)
    gates.values.grad = torch.ones_like(gates.values)
    before = method.psi.detach().clone()
    with torch.no_grad():
        method.after_step(gates)
    assert not torch.equal(method.psi, before)


def test_a_cost_without_a_derivative_is_refused() -> None:
    message = "ratio_of=latency has no derivative, which ChipNet needs to learn gates; choose pruning.ratio_of=macs"
    with pytest.raises(ValueError, match=re.escape(message)):
        ChipNet().check(ConvNet().groups(), "latency")


@pytest.mark.parametrize("setting", [{"budget": -1}, {"crispness": -0.1}, {"travel": 0}, {"travel": float("nan")}])
def test_settings_that_make_no_sense_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=re.escape("pruning.criterion.budget=")):
        ChipNet(**setting)


def test_ranks_need_a_stage() -> None:
    network: nn.Module = ConvNet()
    with pytest.raises(PruningError, match="has seen no training; train with a PruningCallback"):
        ChipNet()(Gates(network, network.groups()))
