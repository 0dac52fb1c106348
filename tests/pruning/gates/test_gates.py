import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruning.gates import Gates
from pruning.gates.norms import MaskedLayerNorm, UnitMask, set_mask
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import (
    BranchNet,
    ConvNet,
    Filtered,
    NormNet,
    crops,
    largest_error,
    random_gates,
    random_plan,
    shake,
    tiny_ostrack,
)

NETWORKS = {
    "ostrack": lambda: tiny_ostrack(stem_hidden=6, depth=1, search=32),
    "cnn": ConvNet,  # fc1 is cut by three groups, fc2 and fc1 in other dims
    "norms": NormNet,  # fc2 is gated by two groups, `square` is cut twice by one
    "branches": BranchNet,  # groups that may close altogether, over norms of their own
    "filtered": Filtered,  # a matrix that is masked by one group in both dims and gated by another
}


def build(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    network = shake(NETWORKS[name]().double(), 5)
    if name == "ostrack":
        return network, crops(network, batch=3)
    shape = (4, 3, 8, 8) if name == "cnn" else (4, 5 if name == "filtered" else 6)
    return network, {"x": torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}


def loss_of(out: Tensor | dict[str, Tensor], power: int = 1) -> Tensor:
    maps = out.values() if isinstance(out, dict) else [out]
    return sum((m**power * torch.linspace(-1, 2, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in maps)


def reference(
    network: nn.Module, groups: list[Group], scale: dict[str, Tensor], mask: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Returns gated and masked tensors for autograd, entry by entry, without `Slice.positions`."""
    weights = dict(network.named_parameters()) | dict(network.named_buffers())
    for group in groups:
        for s in (s for s in group.slices if s.gated or s.masked):
            w = weights[s.path]
            factors = [torch.ones((), dtype=w.dtype)] * w.shape[s.dim]
            for offset in s.offsets:
                for unit in range(group.size):
                    for j in range(s.inner):
                        factors[offset + unit * s.inner + j] = (scale if s.gated else mask)[group.name][unit]
            weights[s.path] = w * torch.stack(factors).view([-1 if d == s.dim else 1 for d in range(w.dim())])
    return weights


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("state", ["open", "closed", "closing"])
@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_are_those_of_autograd(name: str, state: str, passes: int) -> None:
    network, inputs = build(name)
    groups = network.groups()
    plan = Plan() if state == "open" else random_plan(groups, 11)
    gates = random_gates(network, groups, plan, seed=4)
    if state == "closing":
        gates.close(plan, Plan(), progress=0.6)
        assert gates.mask.unique().tolist() == pytest.approx([0.4, 1])
    twin = copy.deepcopy(network)

    gates.fold()
    for i in range(passes):
        loss_of(network(**inputs), i + 1).backward()
    gates.unfold()

    # A closed gate's gradient says what opening it would do: that of the scale that is 0, not of the value behind it.
    scale = {k: v.detach().clone().requires_grad_() for k, v in gates.split(gates.values * gates.mask).items()}
    for group, mask in zip(groups, gates.mask.split(gates.sizes), strict=True):
        for norm in group.norms:
            set_mask(twin.get_submodule(norm), UnitMask.of(mask))
    for i in range(passes):
        tensors = reference(twin, groups, scale, gates.split(gates.mask.to(torch.float64)))
        loss_of(functional_call(twin, tensors, kwargs=inputs), i + 1).backward()
    for (path, p), q in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-10, msg=path)
    for group, grad in gates.split(gates.values.grad).items():
        torch.testing.assert_close(grad, scale[group].grad, rtol=1e-9, atol=1e-10, msg=group)
    if state == "closed":
        assert gates.values.grad[gates.mask == 0].any()  # closed units can come back


def test_gate_gradients_add_up_over_steps_like_any_other() -> None:
    network, inputs = build("cnn")
    gates = random_gates(network, network.groups(), Plan(), seed=0)
    network.eval()
    for _ in range(2):
        network.zero_grad()
        gates.fold()
        loss_of(network(**inputs)).backward()
        gates.unfold()
    twice = gates.values.grad
    gates.values.grad = None
    network.zero_grad()
    gates.fold()
    loss_of(network(**inputs)).backward()
    gates.unfold()
    torch.testing.assert_close(twice, 2 * gates.values.grad)


@pytest.mark.parametrize("name", NETWORKS)
def test_gate_gradients_are_left_out_where_nobody_wants_them(name: str) -> None:
    gradients = []
    for wanted in (True, False):
        network, inputs = build(name)
        gates = random_gates(network.eval(), network.groups(), random_plan(network.groups(), 11), seed=4)
        gates.fold()
        loss_of(network(**inputs)).backward()
        gates.unfold(gate_gradients=wanted)
        assert not gates.is_folded
        assert (gates.values.grad is None) != wanted
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_without_a_backward_pass_there_are_no_gradients() -> None:
    network, _ = build("norms")
    gates = Gates(network, network.groups())
    gates.fold()
    gates.unfold()
    assert not gates.values.grad.any()
    assert all(p.grad is None for p in network.parameters())


def test_folding_twice_and_changing_the_mask_while_folded_are_refused() -> None:
    network, _ = build("norms")
    gates = Gates(network, network.groups())
    with pytest.raises(RuntimeError, match="call fold"):
        gates.unfold()
    gates.fold()
    with pytest.raises(RuntimeError, match="already folded"):
        gates.fold()
    with pytest.raises(RuntimeError, match="cannot change while"):
        gates.close(Plan())
    with pytest.raises(RuntimeError, match="already folded"):
        gates.fold_permanently()
    with gates.folded():  # inside of a step this is not an error, and does not unfold at its end
        pass
    assert gates.is_folded
    gates.unfold()


@pytest.mark.parametrize("name", NETWORKS)
def test_unfolding_gives_back_the_very_same_network(name: str) -> None:
    network, inputs = build(name)
    groups = network.groups()
    parameters, types = list(network.parameters()), [type(m) for m in network.modules()]
    before = {k: v.clone() for k, v in network.state_dict().items()}
    gates = random_gates(network.eval(), groups, random_plan(groups, 2), seed=2)

    def fail() -> None:
        with gates.folded():
            assert network.state_dict().keys() == before.keys()
            assert any(not torch.equal(network.get_parameter(k), before[k]) for k in gates.ungated_weights())
            assert all(torch.equal(w, before[k]) for k, w in gates.ungated_weights().items())
            network(**inputs)
            raise ArithmeticError("as told")

    with pytest.raises(ArithmeticError, match="as told"):
        fail()
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert all(p is q for p, q in zip(network.parameters(), parameters, strict=True))
    assert [type(m) for m in network.modules()] == types
    assert not gates.is_folded
    assert gates.ungated_weights() == {}
    assert gates.values.grad is None


def test_evaluation_between_backward_and_step_leaves_gradients_alone() -> None:
    network, inputs = build("cnn")
    gates = random_gates(network, network.groups(), Plan({"inner": (0, 2)}), seed=3)
    gates.fold()
    loss_of(network(**inputs)).backward()
    gates.unfold()
    before = [p.grad.clone() for p in (*network.parameters(), gates.values)]
    with torch.no_grad(), gates.folded():
        network(**inputs)
    after = [p.grad for p in (*network.parameters(), gates.values)]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_folded_network_can_be_copied_and_pickled() -> None:
    network, inputs = build("norms")
    plan = Plan({"width": (0, 2, 3), "hidden": (1, 4)})
    gates = random_gates(network, network.groups(), plan, seed=0)
    gates.fold()
    with torch.no_grad():
        expected = network(**inputs)
        copies = copy.deepcopy(network), pickle.loads(pickle.dumps(network))
        gates.unfold()
        for twin in copies:
            assert type(twin.norm) is MaskedLayerNorm
            assert torch.equal(twin(**inputs), expected)


def test_closing_opens_what_the_plan_keeps() -> None:
    network, _ = build("cnn")
    gates = Gates(network, network.groups())
    gates.close(Plan({"inner": (1, 3), "hidden": ()}))
    masks = gates.split(gates.mask)
    assert masks["inner"].tolist() == [0, 1, 0, 1, 0]
    assert not masks["hidden"].any()
    assert masks["stream"].all()
    gates.close(Plan({"stream": (5,)}))
    masks = gates.split(gates.mask)
    assert masks["inner"].all()
    assert masks["hidden"].all()
    assert masks["stream"].tolist() == [0, 0, 0, 0, 0, 1]


def test_on_the_way_units_leave_and_return_linearly() -> None:
    network, _ = build("cnn")
    gates = Gates(network, network.groups())
    before, after = Plan({"inner": (0, 1, 2), "hidden": ()}), Plan({"inner": (1, 3), "stream": (5,)})
    for progress in (0.0, 0.25, 0.5, 1.0, 1.5):
        gates.close(after, before, progress)
        gone = min(progress, 1.0)
        masks = {name: mask.tolist() for name, mask in gates.split(gates.mask).items()}
        assert masks["inner"] == pytest.approx([1 - gone, 1, 1 - gone, gone, 0])
        assert masks["hidden"] == pytest.approx([gone] * 7)
        assert masks["stream"] == pytest.approx([1 - gone] * 5 + [1])
        assert masks["branch"] == [1] * 4
        if progress in (0.0, 1.0, 1.5):
            assert set(gates.mask.tolist()) == {0, 1}  # exactly
    gates.close(after, before, 0.5)
    gates.close(after)
    assert set(gates.mask.tolist()) == {0, 1}
    gates.fold()
    with pytest.raises(RuntimeError, match="cannot change while"):
        gates.close(after, before, 0.5)
    gates.unfold()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_computed_moves_without_a_jump_from_one_plan_to_the_other(name: str) -> None:
    network, inputs = build(name)
    groups, outputs = network.eval().groups(), []
    gates = Gates(network, groups)
    plan = Plan({g.name: tuple(range(g.size // 3, g.size)) for g in groups})
    with torch.no_grad():
        for step in range(201):
            gates.close(plan, Plan(), step / 200)
            with gates.folded():
                out = network(**inputs)
            outputs.append(torch.cat([m.flatten() for m in (out.values() if isinstance(out, dict) else [out])]))
        gates.close(plan)
        with gates.folded():
            hard = network(**inputs)
    hard = torch.cat([m.flatten() for m in (hard.values() if isinstance(hard, dict) else [hard])])
    torch.testing.assert_close(outputs[-1], hard, rtol=0, atol=0)
    steps = torch.stack(outputs).diff(dim=0).norm(dim=1)
    assert (outputs[-1] - outputs[0]).norm() > 0.1
    assert steps.max() < 0.1 * steps.sum()


@pytest.mark.parametrize("name", NETWORKS)
def test_baking_puts_the_gates_into_the_weights_and_opens_them(name: str) -> None:
    network, inputs = build(name)
    groups = network.eval().groups()
    plan = random_plan(groups, 8)
    gates = random_gates(network, groups, plan, seed=8)
    as_map = dict if name in ("ostrack", "cnn") else (lambda out: {"out": out})
    with torch.no_grad():
        with gates.folded():
            masked = as_map(network(**inputs))
        gates.fold_permanently()
        assert not gates.is_folded
        assert gates.values.eq(1).all()
        assert gates.mask.eq(1).all()
        assert largest_error(masked, as_map(compact(network, groups, plan)(**inputs))) < 1e-10


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("norms", {"hidden": ()}),
        ("branches", {"branches.0": (), "branches.2": ()}),
        ("ostrack", {"backbone.blocks.0.attn": (), "backbone.blocks.0.mlp": ()}),
    ],
)
def test_a_pruned_network_with_empty_groups_can_be_gated_again(name: str, empty: dict) -> None:
    network, inputs = build(name)
    compact(network, network.groups(), Plan(empty))
    gates = Gates(network, network.groups())
    gates.fold()
    loss_of(network(**inputs)).backward()
    gates.unfold()
    assert torch.isfinite(gates.values.grad).all()
    assert gates.values.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_network_keeps_its_precision_while_folded(dtype: torch.dtype) -> None:
    network = NormNet().to(dtype)
    gates = Gates(network, network.groups())
    gates.close(Plan({"width": (0, 1, 5)}))
    with gates.folded():
        assert {p.dtype for p in network.parameters()} == {dtype}
        assert network(torch.ones(2, 6, dtype=dtype)).dtype == dtype
    assert gates.values.dtype == torch.promote_types(dtype, torch.float32)


def test_only_declared_entries_are_scaled() -> None:
    network = shake(ConvNet())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    gates = Gates(network, network.groups())
    gates.values.data.fill_(3)
    gated = {s.path for g in network.groups() for s in g.slices if s.gated}
    with gates.folded():
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, 3 * before[name] if name in gated else before[name], msg=name)


def test_masked_slices_are_zeroed_and_not_scaled() -> None:
    network = shake(Filtered())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    gates = Gates(network, network.groups())
    gates.values.data.fill_(3)
    gates.close(Plan({"code": (0, 1, 2, 3), "other": (1, 2, 3)}))
    with gates.folded():
        assert torch.equal(network.filter[:4], before["filter"][:4])
        assert torch.equal(network.table[:4], before["table"][:4])
        assert not network.filter[4:].any()
        assert not network.table[4:].any()
        rows = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 3, 3, 3])
        columns = torch.tensor([1.0, 1, 1, 1, 0, 0])
        assert torch.equal(network.mixed, before["mixed"] * rows[:, None] * columns)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_slices_of_a_unit_that_leaves_are_scaled_by_how_much_of_it_is_there() -> None:
    network = shake(Filtered())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    gates = Gates(network, network.groups())
    gates.values.data.fill_(3)
    gates.close(Plan({"code": (0, 1, 2, 3)}), Plan(), progress=0.75)
    share = torch.tensor([1.0, 1, 1, 1, 0.25, 0.25])
    with gates.folded():
        torch.testing.assert_close(network.code.weight, 3 * share[:, None] * before["code.weight"])
        torch.testing.assert_close(network.filter, share * before["filter"])
        torch.testing.assert_close(network.table, share * before["table"])


def test_a_gate_at_0_learns_although_its_unit_has_masked_slices() -> None:
    network, inputs = build("filtered")
    gates = Gates(network, network.groups())
    gates.values.data.zero_()
    gates.fold()
    loss_of(network(**inputs)).backward()
    gates.unfold()
    assert gates.split(gates.values.grad)["code"].all()


def test_only_parameters_with_gates_carry_them() -> None:
    network = Filtered()
    carriers = {id(p) for p in Gates(network, network.groups()).parameters()}
    assert carriers == {id(p) for p in (network.code.weight, network.code.bias, network.mixed)}


@pytest.mark.parametrize("seed", range(8))
def test_masked_filters_are_those_of_the_cut_network(seed: int) -> None:
    network, inputs = build("filtered")
    groups = network.groups()
    plan = random_plan(groups, seed)
    gates = random_gates(network, groups, plan, seed)
    with torch.no_grad():
        with gates.folded():
            masked = network(**inputs)
        gates.fold_permanently()
        torch.testing.assert_close(compact(network, groups, plan)(**inputs), masked, rtol=1e-12, atol=0)


def test_without_groups_gates_change_nothing() -> None:
    network, x = shake(ConvNet()), torch.randn(2, 3, 8, 8)
    expected = torch.autograd.grad(network(x)["out"].sum(), [*network.parameters()])
    gates = Gates(network, [])
    gates.fold()
    network(x)["out"].sum().backward()
    gates.unfold()
    assert gates.values.grad.shape == (0,)
    for p, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)
