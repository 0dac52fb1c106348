"""What a user of the pruner may do wrong: each wrong use is one clear error, or works."""

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import Group, Plan, Pruner, PruningError, Slice, check_groups, compact
from pruning.callback import PruningCallback
from pruning.criteria import ChipNet, Depth, Magnitude, NetworkSlimming, Random, Slim, Taylor
from pruning.schedules import Linear

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class CNN(nn.Module):
    """A network as users write it: it knows nothing of pruning."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.bn2(self.conv2(self.bn1(self.conv1(image)).relu())).relu()
        return self.fc(maps.mean((2, 3)))


class Noisy(CNN):
    def forward(self, image: Tensor) -> Tensor:
        return F.dropout(super().forward(image), 0.5, training=True)


def layer(name: str, conv: str, bn: str, reader: str, units: int) -> Group:
    scales = (Slice(f"{bn}.{t}", 0, gated=True) for t in ("weight", "bias"))
    statistics = (Slice(f"{bn}.{t}", 0) for t in ("running_mean", "running_var"))
    return Group(name, "conv", units, (Slice(f"{conv}.weight", 0), *scales, *statistics, Slice(f"{reader}.weight", 1)))


FIRST, SECOND = layer("first", "conv1", "bn1", "conv2", 8), layer("second", "conv2", "bn2", "fc", 6)
GROUPS = [FIRST, SECOND]


def without(*paths: str) -> list[Group]:
    return [replace(g, slices=tuple(s for s in g.slices if s.path not in paths)) for g in GROUPS]


def instead(path: str, *slices: Slice) -> list[Group]:
    return [replace(FIRST, slices=(*(s for s in FIRST.slices if s.path != path), *slices)), SECOND]


def inputs(network: nn.Module) -> dict[str, Tensor]:
    return {"image": X}


def prune(
    groups: Any = GROUPS,
    given: Any = inputs,
    draws: Any = ({"image": X},),
    network: Any = None,
    criterion: Any = None,
    **options: Any,
) -> dict[str, Any]:
    pruner = Pruner(**({"ratio": 0.5, "criterion": criterion or Magnitude()} | options))
    pruner.attach(CNN() if network is None else network, groups, given)
    pruner.update()
    return pruner.finish(draws)


# Declarations

DECLARATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "statistics forgotten": (
        lambda: without("bn1.running_mean", "bn1.running_var"),
        "'first' cuts 'bn1.weight' .* not the same entries of 'bn1.running_mean'.* Slice('bn1.running_mean', 0)",
    ),
    "bias forgotten": (
        lambda: without("bn1.bias"),
        "not the same entries of 'bn1.bias': .* Slice('bn1.bias', 0, gated=True)",
    ),
    "reader forgotten": (
        lambda: instead("conv2.weight"),
        "'first' .* 'conv2' (Conv2d) fails: its input has .* 'conv2.weight' reads 8. Declare Slice('conv2.weight', 1)",
    ),
    "reader along a wrong dim": (
        lambda: instead("conv2.weight", Slice("conv2.weight", 0)),
        "reaches entry 8 of dim 0 of 'conv2.weight', of shape (6, 8, 3, 3)",
    ),
    "too few units": (
        lambda: [replace(FIRST, size=4), SECOND],
        "'first' has 4 units, but 'conv1.weight' has 8 entries along dim 0 (shape (8, 3, 3, 3)), of which 4 "
        "belong to no group. Correct size=4, .* Slice('conv1.weight', 0, whole=False)",
    ),
    "too many units": (lambda: [replace(FIRST, size=9), SECOND], "'first' reaches entry 9 of dim 0 of 'conv1.weight'"),
    "no units": (lambda: [replace(FIRST, size=0), SECOND], "'first' has 0 units, but 'conv1.weight' has 8 entries"),
    "half a unit": (lambda: [replace(FIRST, size=8.0)], "size=8.0 must be the number of units"),
    "fewer than no units": (lambda: [replace(FIRST, size=-1)], "size=-1 must be the number of units"),
    "misspelt": (lambda: instead("bn1.bias", Slice("bn1.bais", 0)), "cuts 'bn1.bais', .*; did you mean 'bn1.bias'?"),
    "module": (lambda: instead("bn1.bias", Slice("bn1", 0)), "cuts 'bn1', .*; did you mean 'bn1.weight'?"),
    "negative dim": (
        lambda: instead("conv2.weight", Slice("conv2.weight", -3)),
        "dim -3 of 'conv2.weight', .* choose a dim from 0 to 3",
    ),
    "dim in words": (lambda: Slice("conv2.weight", "1"), "Slice('conv2.weight', '1', ...): dim='1' must be"),
    "offset beyond": (
        lambda: instead("conv2.weight", Slice("conv2.weight", 1, (8,))),
        "reaches entry 16 of dim 1 of 'conv2.weight'",
    ),
    "one offset": (lambda: Slice("conv2.weight", 1, 0), "offsets=0 must be a tuple of starts, e.g. (0,)"),
    "no path": (lambda: Slice(0, 0), "path=0 must be the name of a tensor"),
    "one slice": (lambda: replace(FIRST, slices=FIRST.slices[0]), "slices=a Slice must be a tuple, e.g. (Slice("),
    "slice in words": (lambda: replace(FIRST, slices=("conv1.weight",)), "slices=('conv1.weight',) must be a tuple"),
    "norms in words": (lambda: replace(FIRST, norms="norm"), "norms='norm' must be a tuple, e.g. ('norm',)"),
    "vanish in words": (lambda: replace(FIRST, vanish="norm"), "vanish='norm' must be a tuple, e.g. ('norm',)"),
    "the same name twice": (lambda: [FIRST, replace(SECOND, name="first")], "names must be unique; .* ['first']"),
    "the same entries twice": (lambda: [FIRST, replace(FIRST, name="copy")], "'copy' cuts entries of dim 0"),
    "gated on both sides": (
        lambda: instead("conv2.weight", Slice("conv2.weight", 1, gated=True)),
        "'first' .* effect of a gate is the square",
    ),
    "outputs": (
        lambda: [*GROUPS, Group("out", "out", 4, tuple(Slice(f"fc.{t}", 0, gated=True) for t in ("weight", "bias")))],
        "'out' .* leave the group of the units that the network returns out",
    ),
    "none": (lambda: [], "ratio=0.5 needs groups to prune, but .* or have them found: attach(network, None, inputs)"),
    "one group": (lambda: FIRST, "groups must be a list of Group, not a Group"),
    "dictionary": (lambda: {"first": FIRST}, "groups must be a list of Group, not a dict"),
    "method": (lambda: list, "groups must be a list of Group, not the class list; call it: groups()"),
    "names": (lambda: ["first"], "groups must be a list of Group, but one entry is 'first'"),
}


def refuses(message: str, error: type[Exception] = PruningError) -> Any:
    """Expects a short error; `.*` in the message stands for anything."""
    return pytest.raises(error, match=re.escape(message).replace(r"\.\*", ".*"))


FOUND_BY_FINISH = ("reader forgotten", "outputs")  # without inputs for `attach`


@pytest.mark.parametrize(
    ("name", "given"), [*((name, inputs) for name in DECLARATIONS), *((name, None) for name in FOUND_BY_FINISH)]
)
def test_a_wrong_declaration_names_the_group_the_tensor_and_what_to_declare(name: str, given: Any) -> None:
    """Without inputs for `attach`, some declarations fail in `finish`, with the same words."""
    build, message = DECLARATIONS[name]
    with refuses(message) as raised:
        prune(build(), given)
    assert len(str(raised.value)) < 500


def test_a_tensor_has_one_name() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network[1] = network[0]
    slices = (Slice("0.weight", 0, gated=True), Slice("0.bias", 0, gated=True), Slice("1.weight", 1))
    with refuses("'g' cuts '1.weight', which is the same tensor as '0.weight'"):
        check_groups(network, [Group("g", "mlp", 4, slices)])


def test_a_part_of_a_dimension_may_stay_if_it_is_said() -> None:
    part = tuple(replace(s, whole=False) for s in FIRST.slices)
    network = CNN()
    result = prune([replace(FIRST, size=4, slices=part), SECOND], network=network)
    assert result["masked_vs_compacted"] < 1e-5
    assert 4 < network.conv1.out_channels <= 8


# Calls


@pytest.mark.parametrize("ratio", [0, 1.5, 50, "0.5", None, True, float("nan")])
def test_a_ratio_is_a_number_from_0_to_1(ratio: Any) -> None:
    message = f"ratio={ratio} must lie in (0, 1]: .* e.g. ratio=0.25" + ", a number and not" * isinstance(ratio, str)
    with refuses(message):
        prune(ratio=ratio)
    pruner = Pruner(0.5, Random())
    pruner.attach(CNN(), GROUPS)
    if ratio is not None:  # None stands for the final ratio
        with refuses(message):
            pruner.update(ratio)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": Magnitude}, "criterion=Magnitude is no instance of a criterion; e.g. criterion=Magnitude()"),
        ({"criterion": "magnitude"}, "criterion='magnitude' is no instance"),
        ({"floor": "0.1"}, "floor='0.1' must lie in [0, 1]"),
        ({"round_to": 8.0}, "round_to=8.0 must be a positive integer"),
        ({"kinds": ["mlp"]}, "kinds names ['mlp']; this network has groups of the kinds ['conv']"),
        ({"protect": ["third"]}, "protect=third is no group; the groups are ['first', 'second']"),
        ({"protect": "*"}, "pruning.protect=['*']; leave one of the 2 groups to prune: 'first', 'second'"),
        (
            {"protect": "*", "kinds": "conv"},
            "to prune with pruning.kinds=['conv'] and pruning.protect=['*']; leave one",
        ),
        ({"ratio": 0.001}, "ratio=0.001 is out of reach: the smallest is"),
        (
            {"given": {"image": X}},
            "inputs must be a function .* not a dict; e.g. inputs=lambda network: {'image': image}",
        ),
        ({"given": X}, "inputs must be a function .* not a tensor of shape (2, 3, 6, 6)"),
        ({"given": lambda network: X}, "inputs(network) must return .* by name, not a tensor of shape (2, 3, 6, 6)"),
        ({"given": lambda network: (X,)}, "inputs(network) must return .* not a tuple; e.g. {'image': image}"),
        ({"given": None, "ratio_of": "macs"}, "ratio_of=macs needs the arguments of a forward"),
        ({"draws": [X]}, "inputs[0] must hold .* by name, not a tensor .* e.g. finish([{'image': image}])"),
        ({"draws": X}, "inputs must be a list .* not a tensor of shape (2, 3, 6, 6)"),
        ({"draws": {"image": X}}, "inputs must be a list .* not a dict; e.g. finish([{'image': image}])"),
        ({"draws": [(X,)]}, "inputs[0] must hold .* not a tuple"),
        ({"draws": None}, "inputs must be a list .* not None"),
        ({"draws": inputs}, "inputs must be a list .* not a function"),
        ({"draws": []}, "inputs=[] leaves nothing to compare"),
        ({"network": nn.Identity}, "the network must be a torch.nn.Module with parameters, not the class Identity"),
        ({"network": nn.ReLU()}, "the network must be a torch.nn.Module with parameters, not a ReLU"),
        (
            {"network": nn.ModuleDict({"_orig_mod": CNN()})},
            "torch.compile made this network for fixed sizes; prune it before: network._orig",
        ),
        ({"network": Noisy()}, "two forwards of the same inputs differ, .* F.dropout(x, training=self.training)"),
        ({"network": CNN().to("meta")}, "the network is on the meta device"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value[:30],
)
def test_a_wrong_argument_is_one_short_error(options: dict, message: str) -> None:
    with refuses(message) as raised:
        prune(**options)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "options",
    [
        {"protect": "first"},
        {"kinds": "conv"},
        {"groups": tuple(GROUPS)},
        {"groups": (group for group in GROUPS)},
        {"groups": [replace(group, slices=list(group.slices)) for group in GROUPS]},
        {"draws": ({"image": X} for _ in range(2))},
        {"network": CNN().requires_grad_(False)},
        {"network": CNN().double(), "given": None, "draws": [{"image": X.double()}]},
        {"network": CNN().bfloat16(), "given": None, "draws": [{"image": X.bfloat16()}]},
        {"network": CNN().train()},
    ],
    ids=lambda options: ",".join(options),
)
def test_other_spellings_of_right_arguments_work(options: dict) -> None:
    result = prune(**({"ratio": 0.6} | options))
    assert result["masked_vs_compacted"] < 1e-3
    assert 0.4 < result["ratio_achieved"] <= 0.6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: PruningCallback(Linear, ratio=0.5, criterion=Random()),
            "schedule=Linear is no schedule; give Linear()",
        ),
        (lambda: PruningCallback("Linear", ratio=0.5, criterion=Random()), "schedule=Linear is no schedule"),
        (lambda: PruningCallback(Linear(), every=1.5, ratio=0.5, criterion=Random()), "every=1.5 must be at least 1"),
        (lambda: PruningCallback(Linear(), every="2", ratio=0.5, criterion=Random()), "every='2' must be at least 1"),
        (lambda: Linear(start="0.1"), "needs 0 <= start < end <= 1, not start='0.1', end=0.8"),
        (lambda: Magnitude("2"), "p='2' is not known"),
        (lambda: Random("a"), "seed='a' must be a whole number"),
        (lambda: Slim(1e-4), "penalty=0.0001 must name kinds; e.g. {'default': 1e-4}"),
        (lambda: NetworkSlimming({"default": -1}), "penalty of 'default' is -1; it must not be negative"),
        (lambda: Slim(travel=-1), "travel=-1 must be positive"),
        (lambda: Plan.from_dict([0, 2]), "a plan must hold kept units by group name, not [0, 2]"),
        (
            lambda: compact(CNN(), GROUPS, {"first": [0, 2]}),
            "the plan must be a Plan, not a dict; e.g. Plan.from_dict(",
        ),
        (lambda: Pruner(0.5, Random()).estimate(CNN(), GROUPS, None), "estimate(network, groups, inputs)"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_one_short_error(build: Callable[[], Any], message: str) -> None:
    with refuses(message) as raised:
        build()
    assert "\n" not in str(raised.value)


def test_a_module_whose_groups_cannot_be_found_is_refused() -> None:
    callback = PruningCallback(Linear(), ratio=0.5, criterion=Random())
    with refuses("CNN has no groups(), so they are found in a run of its network, but nothing gives the arguments"):
        callback.on_fit_start(SimpleNamespace(), CNN())


def test_calls_in_the_wrong_order_say_which_call_comes_first() -> None:
    pruner, network = Pruner(0.5, Magnitude()), CNN()
    for call in (pruner.update, lambda: pruner.finish([inputs(network)]), pruner.kept_counts):
        with refuses("no network is attached"):
            call()
    with refuses("no network is attached"):
        _ = pruner.ratio_achieved
    pruner.attach(network, GROUPS, inputs)
    with refuses("finish() would cut nothing, as no update has closed gates for ratio=0.5; call update() before"):
        pruner.finish([inputs(network)])
    pruner.update()
    with pruner.gates.folded():
        with refuses("the gates are folded", RuntimeError):
            pruner.finish([inputs(network)])
        with refuses("fold", RuntimeError):
            pruner.update(0.4)
    result = pruner.finish([inputs(network)])
    assert network.conv1.out_channels == pruner.kept_counts()["first"] < 8
    assert pruner.ratio_achieved == result["ratio_achieved"] <= 0.5
    for call in (pruner.update, lambda: pruner.finish([inputs(network)])):
        with refuses("finish() has cut the network; attach it"):
            call()


def test_a_network_that_changes_its_type_after_attach_is_cut() -> None:
    network, pruner = CNN(), Pruner(0.5, Magnitude())
    pruner.attach(network, GROUPS, inputs)
    network.double()
    pruner.update()
    assert pruner.finish([{"image": X.double()}])["masked_vs_compacted"] < 1e-12


@pytest.mark.parametrize("criterion", [Taylor(), ChipNet(), Depth()], ids=lambda criterion: type(criterion).__name__)
def test_a_criterion_that_learns_says_how_without_words_of_a_configuration(criterion: Any) -> None:
    with refuses("train with a PruningCallback") as raised:
        prune(criterion=criterion)
    assert "stages." not in str(raised.value)


def test_the_norms_of_a_group_count_relative_to_their_mean_unless_another_normalisation_is_chosen() -> None:
    assert Pruner(0.5, Magnitude()).normalise == "mean"
    assert Pruner(0.5, Magnitude(), normalise="none").normalise == "none"
    assert Pruner(0.5, Random()).normalise == "none"
