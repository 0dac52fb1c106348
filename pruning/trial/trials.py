"""Trial cuts: cuts copies of a network before anything is trained, so that wrong declarations are found early.

Shapes are tried on the meta device: all groups are cut in a few runs and, if a run fails, each group alone. Values are
compared on the CPU if the network is small: a masked unit must have the effect of a removed unit.
"""

import copy
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pruning.arguments import InputFunction
from pruning.budget import RemovalRules
from pruning.cost import copy_to_meta
from pruning.errors import PruningError, first_line
from pruning.gates import Gates
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compacted
from pruning.trial.comparison import TOLERANCE, are_finite, difference, output_leaves
from pruning.trial.cut_errors import COMPLETE, CutError, naming_modules
from pruning.trial.layer_sizes import check_layers
from pruning.trial.trial_plans import empty_branches, merge, part_plans, random_half, separated, without_last_units
from pruning.trial.unchanged_buffers import run_unchanged

log = logging.getLogger(__name__)

# Values are compared if a forward needs fewer MACs: a few seconds for all forwards on one core of a CPU.
MAX_MACS = 5e9
# A rounding may flip a discrete choice of the network on one draw of the inputs, while a fault shows on all draws.
DRAWS = 3
NO_RULES = RemovalRules()
PRECISE = (torch.float32, torch.float64)


def try_cuts(
    network: nn.Module, groups: Sequence[Group], inputs: InputFunction | None, rules: RemovalRules = NO_RULES
) -> None:
    """Cuts copies of the network and runs them. The network and the random numbers of the caller stay as they are.

    Args:
        network: the network.
        groups: the groups that may be cut.
        inputs: returns the arguments of a forward of the network or of a cut copy. Values are compared only if the
            shapes of the arguments do not depend on the cut. With None, copies are cut but not run.
        rules: rules for the removal of units. The trial removes only what they allow.

    Raises:
        PruningError: a group cannot be cut, a cut copy does not run, its outputs differ from those of the masked
            network, or a gate acts twice. The message names the group.
    """
    check_layers(network, groups)
    try:
        meta = copy_to_meta(network)
    except (RuntimeError, TypeError) as error:
        log.warning("%s cannot be copied, so no trial cut is made: %s", type(network).__name__, error)
        return
    trial = Trial(meta, [g for g in groups if g.size], inputs)
    least, empty = part_plans(trial.groups, rules, without_last_units), empty_branches(trial.groups, rules)
    with random_numbers_kept(network), torch.no_grad():
        if inputs is None:
            log.info("attach(network, groups) has no inputs, so the network is not run for a trial")
            trial.try_all([*least, *empty], trial.cut)
            return
        macs = count_macs_on_meta(meta, inputs)
        if macs is None:
            trial.network = copy_to_cpu(network)
            trial.network(**_arguments(trial.network, inputs))  # an error of the uncut network has no group
        small = (macs or 0) < MAX_MACS and all(p.dtype in PRECISE and not p.is_meta for p in network.parameters())
        # Two groups that should be one may be cut alike. Values show that; without them the groups are cut apart.
        for plans in (least, *([] if small else separated(least)), empty):
            trial.try_all(plans, trial.run)
        if small:
            trial.network = copy_to_cpu(network)
            trial.compare_values([part_plans(trial.groups, rules, random_half), empty])


class Trial:
    """Trial cuts of one network.

    Attributes:
        network: copy of the network on the meta device or the CPU.
        groups, inputs: see `try_cuts`.
    """

    def __init__(self, network: nn.Module, groups: list[Group], inputs: InputFunction | None):
        self.network, self.groups, self.inputs = network, groups, inputs
        self._takes_varied: bool | None = None  # not known yet
        self._double: tuple[nn.Module, dict[str, Any]] | None = None  # one copy for the gates of all groups

    def try_all(self, plans: Sequence[Plan], test: Callable[[Plan], Any]) -> None:
        """Tests all plans as one; if that fails, tests each of them alone to find the group that is at fault."""
        if not plans:
            return
        together = merge(plans)
        try:
            test(together)
        except (CutError, PruningError) as error:
            for plan in plans if len(plans) > 1 else ():
                self.try_all([plan], test)
            raise PruningError(self._message(together, error)) from error.__cause__

    def cut(self, plan: Plan) -> nn.Module:
        """Returns a cut copy of the network."""
        try:
            return compacted(self.network, self.groups, plan)
        except RuntimeError as error:  # a parametrization computes a weight from tensors that no longer fit
            raise CutError(f"surgery fails with {first_line(error)}. {COMPLETE}") from error

    def run(self, plan: Plan) -> None:
        """Runs a cut copy of the network."""
        cut = self.cut(plan)
        with naming_modules(cut, self.groups, plan):
            cut(**_arguments(cut, self.inputs))

    def run_in_training(self, plan: Plan) -> None:
        """Runs a cut copy of the network with its parts for the training."""
        cut = self.cut(plan)
        with naming_modules(cut, self.groups, plan), containers_in_training(cut):
            cut(**_arguments(cut, self.inputs))

    def compare_in_training(self, plan: Plan) -> None:
        """Compares the cut network with the masked network, both with their parts for the training."""
        self.compare(plan, containers_in_training)

    def training_tests(self) -> list[Callable[[Plan], None]]:
        """Returns the tests that also try what the network does in training only: none if that is nothing.

        Values are compared if the training draws no random numbers.
        """
        arguments = self._without_constants(_arguments(self.network, self.inputs))
        try:
            plain = run_unchanged(self.network, arguments)
            with containers_in_training(self.network):
                first, second = (run_unchanged(self.network, arguments) for _ in range(2))
        except Exception:  # of any kind: the training may need other arguments
            return []
        if _are_equal(plain, first):
            return []
        return [self.run_in_training, *([self.compare_in_training] if _are_equal(first, second) else [])]

    def compare_values(self, cuts: Sequence[Sequence[Plan]]) -> None:
        """Compares cut copies of the network with the masked network, and tries the gates."""
        self.vary_constants()
        if not are_finite(run_unchanged(self.network, _arguments(self.network, self.inputs))):
            return  # there are no weights yet that could be compared
        for plans in cuts:
            self.try_all(plans, self.compare)
        for group in self.groups:
            if has_gates_in_several_layers(group):
                self.try_all([Plan({group.name: random_half(group, 1)})], self.scale)

    def vary_constants(self) -> None:
        """Adds noise to constant parameters of the network: a layer that starts as zeros would hide every fault."""
        for p in self.network.parameters():
            if p.numel() > 1 and bool((p == p.flatten()[0]).all()):
                p += 0.1 * torch.randn_like(p)

    def _without_constants(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns random numbers in place of constant tensors among the arguments: zeros would hide every fault.

        Numbers that the network does not take, such as sizes of pictures, stay as they are.
        """
        varied = tree_map_only(Tensor, _varied, arguments)
        if all(map(operator.is_, tree_leaves(varied), tree_leaves(arguments))):
            return arguments
        if self._takes_varied is None:
            try:
                self._takes_varied = are_finite(run_unchanged(self.network, varied))
            except Exception:  # of any kind: the network is the user's
                self._takes_varied = False
        return varied if self._takes_varied else arguments

    def compare(self, plan: Plan, in_mode: Callable[[nn.Module], AbstractContextManager] = nullcontext) -> None:
        """Compares the cut network with the masked network; `in_mode` puts a network in the mode of the forwards."""
        cut, gates, error = self.cut(plan), Gates(self.network, self.groups), 0.0
        gates.close(plan)
        for _ in range(DRAWS):
            with naming_modules(cut, self.groups, plan), in_mode(cut):
                arguments, own = _arguments(self.network, self.inputs), _arguments(cut, self.inputs)
                if _shapes(arguments) != _shapes(own):
                    return
                arguments = self._without_constants(arguments)
                output = run_unchanged(cut, arguments)
            with gates.folded(), in_mode(self.network):
                masked = run_unchanged(self.network, arguments)
            error = float(difference(masked, output))
            if error < TOLERANCE:
                return
        arguments = _arguments(self.network, self.inputs)
        first, second = (run_unchanged(self.network, arguments) for _ in range(2))
        if not float(difference(first, second)) < TOLERANCE:
            raise CutError(
                "two forwards of the same inputs differ, so nothing can be compared; the network must not draw random "
                "numbers in evaluation mode, e.g. F.dropout(x, training=self.training)"
            )
        raise CutError(
            f"the outputs differ by {error:.1e} from those of the masked network, relative to the largest output. "
            "Either a tensor that these units cut is not declared, or a layer computes statistics over the units: list "
            "a norm over the units in `norms`"
        )

    def scale(self, plan: Plan) -> None:
        """Scales the gates of the units that `plan` removes, to find out whether the gates act once."""
        group = next(g for g in self.groups if g.name in plan.kept)
        self._double = self._double or self._in_double()
        network, arguments = self._double
        gates, scaled = Gates(network, [group]), sorted({*range(group.size)} - {*plan.units(group)})
        # A network with ReLUs is linear between two kinks. Gates that stay below the first kink have an exact law.
        least = 2**-20 if next(network.parameters()).dtype == torch.float64 else 2**-10
        outputs = []
        for factor in (0, 1, 2, 4):
            gates.values[scaled] = factor * least
            with gates.folded():
                outputs.append(run_unchanged(network, arguments))
        first, second, third = (float(difference(outputs[0], output)) for output in outputs[1:])
        # Twice the gate has twice the effect if the gate acts once, and four times the effect if it acts twice.
        if second > 3 * first and third > 3 * second:
            gated = [s.path for s in group.slices if s.gated]
            raise CutError(
                "the effect of a gate is the square of its value, because tensors that produce a unit and tensors that "
                f"read it are gated: {gated}. Declare gated=True for one of both sides"
            )

    def _in_double(self) -> tuple[nn.Module, dict[str, Any]]:
        """Returns a copy of the network in double precision with arguments; the network itself if the copy fails."""
        arguments = self._without_constants(_arguments(self.network, self.inputs))
        double = tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, arguments)
        try:
            network = copy.deepcopy(self.network).double()
            run_unchanged(network, double)
        except Exception:  # of any kind: the network may need its own type
            return self.network, arguments
        return network, double

    def _message(self, plan: Plan, error: Exception) -> str:
        counts = {g: f"{len(plan.units(g))} of {g.size} units" for g in self.groups if g.name in plan.kept}
        names = ", ".join(f"'{g.name}' ({kept})" for g, kept in counts.items())
        together = "" if len(counts) == 1 else " together, though each of them alone can be cut"
        return (
            f"a trial cut shows that the group{'s' * (len(counts) > 1)} {names} cannot be pruned{together}: {error}. "
            f"Correct the declaration, or leave the units whole: pruning.protect={[g.name for g in counts]}"
        )


def has_gates_in_several_layers(group: Group) -> bool:
    """Returns whether more than one module has gated weights of a group, so that its gates might act twice."""
    return len({s.path.rpartition(".")[0] for s in group.slices if s.gated}) > 1


def _arguments(network: nn.Module, inputs: InputFunction | None) -> dict[str, Any]:
    """Returns the arguments of a forward on the device of the network."""
    assert inputs is not None  # `try_cuts` runs no network without inputs
    device = next(network.parameters()).device
    return tree_map_only(Tensor, lambda t: t.to(device), dict(inputs(network)))


def _are_equal(first: Any, second: Any) -> bool:
    """Returns whether all tensors of two outputs are equal."""
    pairs = [[leaf for leaf in output_leaves(o) if isinstance(leaf, Tensor)] for o in (first, second)]
    return len(pairs[0]) == len(pairs[1]) and all(map(torch.equal, *pairs))


def _varied(tensor: Tensor) -> Tensor:
    """Returns random numbers of the shape and type of a constant tensor, and other tensors as they are."""
    if tensor.numel() < 2 or tensor.dtype == torch.bool or not bool((tensor == tensor.flatten()[0]).all()):
        return tensor
    if tensor.is_floating_point() or tensor.is_complex():
        return torch.randn_like(tensor)
    return torch.randint_like(tensor, 2)


def _shapes(arguments: Mapping[str, Any]) -> list[torch.Size]:
    return [leaf.shape for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def count_macs_on_meta(meta: nn.Module, inputs: InputFunction) -> float | None:
    """Returns the MACs of a forward, None if the network does not run on the meta device."""
    try:
        with FlopCounterMode(display=False) as counter:
            meta(**_arguments(meta, inputs))
    except Exception:  # the forward reads values (`item()`), or an operator has no shapes: any error is possible
        return None
    return counter.get_total_flops() / 2


@contextmanager
def containers_in_training(network: nn.Module) -> Iterator[None]:
    """Puts modules that contain others in training mode during the block, and all modules in evaluation mode after it.

    Layers are not, so that batch norms of one position run.
    """
    for module in network.modules():
        module.training = next(module.children(), None) is not None
    try:
        yield
    finally:
        network.eval()


def copy_to_cpu(network: nn.Module) -> nn.Module:
    """Returns a copy of a network on the CPU, in evaluation mode, without gradients."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


@contextmanager
def random_numbers_kept(network: nn.Module) -> Iterator[None]:
    """Restores the states of the random number generators of the CPU and of the network's GPU after the block."""
    devices = {p.device.index for p in network.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(sorted(devices)):
        torch.manual_seed(0)
        yield
