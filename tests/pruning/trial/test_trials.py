"""Tests of trial cuts: what cannot be cut is refused before a training, and nothing else."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from pruning.arguments import InputFunction
from pruning.budget import RemovalRules
from pruning.criteria import Random
from pruning.errors import PruningError
from pruning.plan import Plan
from pruning.pruner import Pruner
from pruning.trial import trials
from pruning.trial.trials import Trial, try_cuts
from tests.pruning.faulty import FAULTS, Fault, Network, read, write
from tests.pruning.networks import (
    BranchNet,
    ConvNet,
    Filtered,
    Mixed,
    NormNet,
    Recipe,
    crops,
    shake,
    tiny_ostrack,
)
from trackers.checkpoints.checkpoint import build_tracker

CONF = Path(__file__).parents[3] / "conf"


def network_of(fault: Fault) -> tuple[Network, dict[str, Tensor]]:
    torch.manual_seed(0)
    return fault.build().eval(), {"x": torch.rand(fault.inputs)}


def state_of(network: nn.Module) -> tuple[str, dict[str, tuple[int, int]], dict[str, Tensor]]:
    """Returns the printed modules of a network, the places of its tensors in memory, and copies of their values."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    places = {name: (id(t), t.data_ptr()) for name, t in tensors.items()}
    return str(network), places, {name: t.detach().clone() for name, t in tensors.items()}


def assert_unchanged(network: nn.Module, before: tuple) -> None:
    printed, places, values = state_of(network)
    assert (printed, places) == before[:2]
    assert all(torch.equal(t, before[2][name]) for name, t in values.items())


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_cut_is_refused_before_anything_is_trained(name: str) -> None:
    network, arguments = network_of(FAULTS[name])
    before, random = state_of(network), torch.get_rng_state()
    for call in (Pruner(0.9, Random(0)).check, Pruner(0.9, Random(0)).attach):
        with pytest.raises(PruningError, match=FAULTS[name].message) as raised:
            call(network, network.groups(), lambda _: arguments)
        assert "'units'" in str(raised.value)
        assert "\n" not in str(raised.value)
    assert_unchanged(network, before)
    assert torch.equal(torch.get_rng_state(), random)
    with torch.no_grad():
        network(**arguments)


def test_two_groups_that_are_one_are_found_by_shapes_if_values_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut by the same count, both groups fit together; so runs are made in which only one of them is cut."""
    network, arguments = network_of(FAULTS["two groups that are one"])
    monkeypatch.setattr(trials, "MAX_MACS", -1)
    with pytest.raises(PruningError, match=r"'units' \(7 of 8 units\) cannot be pruned: the forward of Network fails"):
        try_cuts(network, network.groups(), lambda _: arguments)
    network, arguments = network_of(FAULTS["softmax over the units"])
    try_cuts(network, network.groups(), lambda _: arguments)  # values were not compared


# Faults that only training would show: while the last layer is zero, and while gates are 1, all outputs are equal.
SILENT = {"layer norm behind a layer of zeros", "gated at producer and reader"}


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - SILENT))
@pytest.mark.parametrize("kept_gates", ["fold", "one"])
def test_a_finish_that_fails_leaves_the_network_and_its_gates(name: str, kept_gates: str) -> None:
    """Without inputs, `attach` tries the cut itself only, so many faults come as far as `finish`."""
    network, arguments = network_of(FAULTS[name])
    pruner = Pruner(0.9, Random(0), kept_gates=kept_gates)
    try:
        pruner.attach(network.train(), network.groups())
    except PruningError:
        assert not hasattr(pruner, "gates")
        return
    pruner.update()
    pruner.gates.values.data.uniform_(0.5, 1.5)
    before, values, mask = state_of(network), pruner.gates.values.detach().clone(), pruner.gates.mask.clone()
    with torch.no_grad(), pruner.gates.folded():
        masked = network.eval()(**arguments)
    network.train()
    for _ in range(2):
        with pytest.raises((RuntimeError, ValueError)):
            pruner.finish([arguments])
        assert_unchanged(network, before)
        assert network.training
        assert torch.equal(pruner.gates.values, values)
        assert torch.equal(pruner.gates.mask, mask)
    with torch.no_grad(), pruner.gates.folded():
        assert torch.equal(network.eval()(**arguments), masked)


class Fails(nn.Module):
    """Layer that fails at its second call, when `finish` runs the cut network."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise KeyboardInterrupt
        return x


def test_an_interrupted_finish_leaves_structure_besides_tensors() -> None:
    """Widths of heads, replaced modules and classes of norms come back as well."""
    network = tiny_ostrack()
    network.add_module("last", Fails())
    network.register_forward_hook(lambda module, _, outputs: {k: module.last(v) for k, v in outputs.items()})
    pruner = Pruner(0.3, Random(0), floor=0.0)
    pruner.attach(network, network.groups())
    pruner.update()
    pruner.plan = Plan({**pruner.plan.kept, network.groups()[0].name: ()})
    before, groups, norm = state_of(network), network.groups(), type(network.backbone.blocks[0].norm1)
    with pytest.raises(KeyboardInterrupt):
        pruner.finish([crops(network)])
    assert_unchanged(network, before)
    assert network.groups() == groups
    assert type(network.backbone.blocks[0].norm1) is norm
    network.last = nn.Identity()
    assert pruner.finish([crops(network)])["masked_vs_compacted"] < 1e-3
    assert len(network.groups()) < len(groups)


# Networks that can be cut


class Reads(ConvNet):
    """Network that cannot run on the meta device, because it reads a value."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(x * float(x.abs().max()))


GOOD: dict[str, tuple[Callable[[], nn.Module], InputFunction]] = {
    "ostrack": (lambda: tiny_ostrack(head_channels=(6, 4), stem_hidden=6), crops),
    "cnn": (ConvNet, lambda _: {"x": torch.randn(2, 3, 8, 8)}),
    "square": (NormNet, lambda _: {"x": torch.randn(3, 6)}),
    "branches": (BranchNet, lambda _: {"x": torch.randn(3, 6)}),
    "filtered": (Filtered, lambda _: {"x": torch.randn(3, 5)}),
    "mixed": (lambda: Mixed(Recipe(((5, 4, (4, 3)), (4, 3, ())), 2, 4, ((5, False), (3, True)), 4)), Mixed.inputs),
    "reads values": (Reads, lambda _: {"x": torch.randn(2, 3, 8, 8)}),
}


@pytest.mark.parametrize(
    "rules", [RemovalRules(), RemovalRules(0, 2), RemovalRules(0, 1, whole_branches=True)], ids=str
)
@pytest.mark.parametrize("name", GOOD)
def test_right_declarations_pass_and_leave_the_network_as_it_is(name: str, rules: RemovalRules) -> None:
    build, inputs = GOOD[name]
    network = shake(build())
    before = state_of(network)
    try_cuts(network, network.groups(), inputs, rules)
    assert_unchanged(network, before)
    for p in network.parameters():  # without weights shapes are tried alone
        p.data.fill_(torch.nan)
    try_cuts(network, network.groups(), inputs, rules)


@pytest.mark.parametrize("seed", [407, 650, 683])
def test_gates_that_act_once_pass_also_if_the_inputs_are_zeros(seed: int) -> None:
    """With zeros, the effect of a gate on these three networks was nearly the square of its value."""
    torch.manual_seed(seed)
    network = BranchNet(width=32, hidden=64, depth=1)
    try_cuts(network, network.groups(), lambda _: {"x": torch.zeros(3, 6)})


@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_a_trial_of_a_tiny_tracker_takes_less_than_a_second(tracker: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        recipe = OmegaConf.to_container(compose("train", [f"tracker={tracker}", "scale=tiny"]).tracker, resolve=True)
    built = build_tracker(recipe)
    for inputs in (built.frame_inputs, lambda _: built.example_inputs()):
        begin = time.process_time()
        try_cuts(built.network, built.groups(), inputs)
        assert time.process_time() - begin < 3  # 0.3 to 0.6 measured on one idle core


def test_units_are_removed_in_the_multiples_that_the_rules_allow() -> None:
    """Kernels may need multiples; a head of 4 units must leave as a whole."""
    heads = FAULTS["heads of fixed width"].build()
    heads.run = lambda n, x: n.fc2(n.fc1(x).unflatten(-1, (-1, 4)).relu().flatten(-2))
    with pytest.raises(PruningError, match="forward of Network fails"):
        try_cuts(heads, heads.groups(), lambda _: {"x": torch.rand(2, 3)})
    try_cuts(heads, heads.groups(), lambda _: {"x": torch.rand(2, 3)}, RemovalRules(round_to=4))


class Elsewhere(BranchNet):
    """Network that reads a norm which vanishes with its branch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.branches[1].norm.weight.sum()


def test_a_branch_that_must_not_vanish_is_named() -> None:
    network, inputs = Elsewhere(), lambda _: {"x": torch.rand(3, 6)}
    with pytest.raises(PruningError, match=r"'branches.1' \(0 of 5 units\) cannot be pruned: the forward of Elsewhere"):
        try_cuts(network, network.groups()[:-1], inputs, RemovalRules(floor=0))
    try_cuts(network, network.groups()[:-1], inputs)  # the default floor keeps units


def test_a_flip_on_one_draw_is_no_fault() -> None:
    """A discrete choice may flip by rounding: one equal draw of three is enough."""
    network, calls = shake(ConvNet()), []

    def flip(module: nn.Module, _: tuple, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        calls.append(0)
        return {"out": outputs["out"] + (len(calls) == 1)}

    network.eval().register_forward_hook(flip)
    plan = Plan({"hidden": (0, 2)})
    with torch.no_grad():
        Trial(network, network.groups(), lambda _: {"x": torch.randn(2, 3, 8, 8)}).compare(plan)
    assert len(calls) == 4


def test_an_uncut_network_that_fails_keeps_its_own_error() -> None:
    network = ConvNet()
    with pytest.raises(RuntimeError, match="expected input"):
        try_cuts(network, network.groups(), lambda _: {"x": torch.randn(2, 4, 8, 8)})


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_network_that_cannot_be_copied_is_pruned_without_a_trial(caplog: pytest.LogCaptureFixture) -> None:
    """The weight of an old weight norm is the result of a computation, which torch does not copy."""
    torch.manual_seed(0)
    network = Network(
        lambda n, x: n.fc(n.conv(x).mean((2, 3))),
        (*write("conv", tensors=("weight_g", "weight_v", "bias"), gated=True), *read("fc")),
        conv=nn.utils.weight_norm(nn.Conv2d(3, 8, 3)),
        fc=nn.Linear(8, 4),
    )
    pruner = Pruner(0.9, Random(0))
    pruner.attach(network, network.groups(), lambda _: {"x": torch.rand(2, 3, 6, 6)})
    assert "Network cannot be copied, so no trial cut is made" in caplog.text
