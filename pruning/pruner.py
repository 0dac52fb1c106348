"""The pruner: ranks units, closes their gates to meet a ratio, and cuts the network. It needs no training framework."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from pruning.arguments import InputFunction, checked_function, list_draws
from pruning.budget import check_ratio, fit_plan
from pruning.budget.expected_size import expected_fractions
from pruning.budget.measured import MeasuredBudget
from pruning.budget.ranking import check_ranking, quantile_ranks
from pruning.criteria.criterion import Criterion, check_kinds
from pruning.discovery.finding import find_groups
from pruning.discovery.reasons import no_groups_error
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.trial.cut_errors import CutError
from pruning.trial.final_cut import cut_and_compare
from pruning.trial.trials import try_cuts

KEPT_GATES = ("fold", "one")


class Pruner:
    """Pruner of any network, with groups that are declared or found.

        pruner = Pruner(ratio=0.25, criterion=Magnitude())
        pruner.attach(network, None, inputs=lambda network: {"x": x})  # finds the groups, or takes a list of them
        pruner.update()            # closes gates until the network fits the ratio
        pruner.finish([{"x": x}])  # cuts the network, and checks that masked and cut network have equal outputs

    Criteria that learn need a training between `attach` and `update`; see `PruningCallback`. After `finish`, `plan`,
    `kept_counts` and `ratio_achieved` describe the cut; `attach` begins another one.

    Args:
        ratio: fraction to keep, in (0, 1].
        criterion: gives every unit a score.
        ratio_of: quantity that the ratio refers to: "params" (parameters of the whole network), "macs" (MACs of one
            forward), "latency" (milliseconds of one forward, by a table of times measured on `device`) or "units"
            (prunable units alone: the budget of the ICASSP 2023 paper).
        scope, normalise: pools in which units compete, by kind, and normalization of the scores of a group; see
            `ranking.quantile_ranks`. By default the normalization is that of the criterion: "mean" for `Magnitude`,
            "none" for the others.
        floor, round_to, whole_branches: rules for the removal of units; see `budget.RemovalRules`. With
            round_to="auto", every group gets the multiple at which the kernels of `device` are fast; see
            `rounding.fast_multiples`.
        regrow: whether removed units may return at a later update if they rank well again.
        kinds: kinds of groups to prune; None for all.
        protect: names of groups that are not pruned; wildcards are allowed, e.g. "backbone.blocks.0.*".
        kept_gates: use of the learned gates of kept units. "fold" multiplies them into the weights of the cut network.
            "one" sets them to 1, as ViT-Slim and the ICASSP 2023 paper do.
        device: torch device on which latency is measured, and the multiples of round_to="auto".
        layer_below: below this ratio every group is a pool of its own (scope "layer"), whatever `scope` says.

    Attributes:
        gates: gates of the attached network.
        groups: groups that are pruned, in the order of the gates.
        plan: kept units at the moment.
        planned_ratio: ratio that `plan` was made for.

    Raises:
        PruningError: a setting is out of its range or does not exist.
    """

    def __init__(
        self,
        ratio: float,
        criterion: Criterion,
        ratio_of: str = "params",
        scope: Mapping[str, str] | None = None,
        normalise: str | None = None,
        floor: float = 0.1,
        round_to: int | str = 1,
        whole_branches: bool = False,
        regrow: bool = False,
        kinds: Sequence[str] | None = None,
        protect: Sequence[str] = (),
        kept_gates: str = "fold",
        device: str = "cpu",
        layer_below: float = 0.0,
    ):
        check_ratio(ratio)
        if kept_gates not in KEPT_GATES:
            raise PruningError(f"pruning.kept_gates={kept_gates} is not known; choose one of {KEPT_GATES}")
        if isinstance(scope, str):
            raise PruningError(f"pruning.scope={scope} must name kinds of groups; set pruning.scope.default={scope}")
        if not isinstance(criterion, Criterion):
            raise PruningError(
                f"criterion={getattr(criterion, '__name__', repr(criterion))} is no instance of a criterion; e.g. "
                "criterion=Magnitude()"
            )
        self.scope = dict(scope or {"default": "global"})
        self.normalise = criterion.normalise if normalise is None else normalise
        check_ranking(self.scope, self.normalise)
        if ratio < layer_below:
            self.scope = dict.fromkeys(("default", *self.scope), "layer")
        self.ratio, self.ratio_of, self.criterion, self.device = ratio, ratio_of, criterion, device
        self._budget = MeasuredBudget(ratio, ratio_of, floor, round_to, whole_branches, device)
        self.rules = self._budget.rules
        self.regrow, self.kept_gates = regrow, kept_gates
        self.kinds = [kinds] if isinstance(kinds, str) else kinds
        self.protect = [protect] if isinstance(protect, str) else list(protect)
        self._tried: tuple | None = None

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """Returns the groups to prune, by `kinds` and `protect`.

        Raises:
            PruningError: no group has one of `kinds`, no group matches a name in `protect`, or a setting names a kind
                that is a probable misspelling of an existing kind.
        """
        have = {g.kind for g in groups}
        if missing := sorted({*(self.kinds or ())} - have):
            raise PruningError(f"pruning.kinds names {missing}; this network has groups of the kinds {sorted(have)}")
        check_kinds("scope", self.scope, groups)
        self.criterion.check(groups, self.ratio_of)
        for pattern in self.protect:
            if not any(fnmatchcase(g.name, pattern) for g in groups):
                raise PruningError(f"pruning.protect={pattern} is no group; the groups are {[g.name for g in groups]}")
        return [
            g
            for g in groups
            if (self.kinds is None or g.kind in self.kinds) and not any(fnmatchcase(g.name, p) for p in self.protect)
        ]

    def _choose(self, network: nn.Module, groups: Sequence[Group] | None, inputs: InputFunction | None) -> list[Group]:
        """Returns the groups to prune, after a check of all groups. With None the groups are found.

        Raises:
            PruningError: groups are to be found without inputs; a declaration is wrong, see `check_groups`; see
                `select`; or nothing is left to prune.
        """
        if groups is None:
            if inputs is None:
                raise PruningError(
                    "groups=None finds the groups in a run of the network, which needs the arguments of its forward: "
                    "inputs=lambda network: {'x': x}"
                )
            found = find_groups(network, inputs)
            if not found.groups and self.ratio < 1:
                raise no_groups_error(type(network).__name__, found.whole)
            groups = found.groups
        groups = check_groups(network, groups)
        chosen = self.select(groups)
        if self.ratio < 1 and not any(g.size for g in chosen):
            raise PruningError(f"ratio={self.ratio} needs groups to prune, but {self._why_none(groups)}")
        return chosen

    def _why_none(self, groups: Sequence[Group]) -> str:
        """Returns why none of the network's groups is pruned, and what would change it."""
        if not any(g.size for g in groups):
            return (
                "the network has no groups with units; declare some, or have them found: attach(network, None, inputs)"
            )
        settings = {"kinds": self.kinds, "protect": self.protect}
        given = " and ".join(f"pruning.{name}={value}" for name, value in settings.items() if value)
        names = ", ".join(f"'{g.name}'" for g in groups[:3]) + ", ..." * (len(groups) > 3)
        return f"nothing is left to prune with {given}; leave one of the {len(groups)} groups to prune: {names}"

    def check(
        self,
        network: nn.Module,
        groups: Sequence[Group] | None,
        inputs: InputFunction | None = None,
        trial_inputs: InputFunction | None = None,
    ) -> None:
        """Checks before a training that the ratio can be reached, and that the groups can be cut.

        Args:
            network, groups, inputs: as for `attach`.
            trial_inputs: returns the arguments of a complete forward for the trial cut, if `inputs` runs only a part of
                the network.

        Raises:
            PruningError: the ratio is out of reach, a setting does not fit the groups, or a trial cut fails; see
                `trials.try_cuts`.
        """
        inputs, trial_inputs = checked_function(inputs, network), checked_function(trial_inputs, network)
        chosen = self._choose(network, groups, trial_inputs or inputs)
        if self.ratio == 1:
            return
        ranks = self._rank({g.name: torch.ones(g.size) for g in chosen}, chosen)
        cost, self.rules = self._budget(network, chosen, inputs)
        fit_plan(chosen, ranks, cost, self.ratio, self.rules)
        self._try_cuts(network, chosen, trial_inputs or inputs)

    def estimate(
        self, network: nn.Module, groups: Sequence[Group] | None, inputs: InputFunction
    ) -> dict[str, list[float]]:
        """Returns about which fractions of the parameters and of the MACs a cut to the ratio keeps.

        The ranking of the units is not known before a training, so the fractions are those of made-up rankings; see
        `expected_fractions`.

        Args:
            network, groups, inputs: as for `attach`.

        Raises:
            PruningError: a setting does not fit the groups, or the ratio is out of reach.
        """
        arguments = checked_function(inputs, network)
        if arguments is None:
            raise PruningError("estimate counts the MACs of a forward: estimate(network, groups, inputs)")
        chosen = self._choose(network, groups, arguments)
        cost, self.rules = self._budget(network, chosen, arguments)

        def plan_of(scores: Mapping[str, Tensor]) -> Plan:
            return fit_plan(chosen, self._rank(scores, chosen), cost, self.ratio, self.rules)

        return expected_fractions(network, chosen, arguments, plan_of)

    def attach(self, network: nn.Module, groups: Sequence[Group] | None, inputs: InputFunction | None = None) -> None:
        """Puts open gates on the groups to prune, after a trial cut of a copy of the network.

        Args:
            network: the network.
            groups: all groups of the network; None to find them, see `find_groups`.
            inputs: returns the arguments of the forward of the network, or of a cut copy of it. MACs and latency are
                those of this forward, and the trial runs it. Without `inputs`, a wrong declaration may first show in
                `finish`.

        Raises:
            PruningError: a setting does not fit the groups, or a trial cut fails; see `trials.try_cuts`.
        """
        inputs = checked_function(inputs, network)
        gates = Gates(network, self._choose(network, groups, inputs))
        self._try_cuts(network, gates.groups, inputs)
        self.cost, self.rules = self._budget(network, gates.groups, inputs)
        self.gates, self.groups = gates, gates.groups
        self.plan, self.planned_ratio, self._without_inputs = Plan(), 1.0, inputs is None

    def update(self, ratio: float | None = None) -> None:
        """Makes a plan for `ratio` from the present scores and closes the gates of all other units.

        If the ratio equals the ratio of the last update, nothing changes, so a training with the final mask keeps it.
        Without `regrow`, removed units stay removed, also if a later ratio is larger.

        Args:
            ratio: fraction to keep at the moment; by default the final ratio.

        Raises:
            PruningError: no network is attached, the ratio is out of reach (see `budget.fit_plan`), or the criterion
                has not learned yet.
            RuntimeError: the gates are folded.
        """
        ratio = self.ratio if ratio is None else ratio
        check_ratio(ratio)
        gates = self._attached_gates()
        if ratio == self.planned_ratio:
            return
        if next(gates.network.parameters()).is_meta:
            raise PruningError("the network is on the meta device, so it has no weights that could be ranked")
        earlier = None if self.regrow else self.plan
        ranks = self._rank(self.criterion(gates), self.groups)
        plan = fit_plan(self.groups, ranks, self.cost, ratio, self.rules, earlier)
        gates.close(plan)
        self.plan, self.planned_ratio = plan, ratio

    @property
    def ratio_achieved(self) -> float:
        """Fraction of the dense cost that the present plan keeps."""
        dense = [g.size for g in self._groups_of_plan()]
        return self.cost(self._counts()) / self.cost(dense)

    def kept_counts(self) -> dict[str, int]:
        """Returns the number of kept units by group name."""
        return {g.name: n for g, n in zip(self._groups_of_plan(), self._counts(), strict=True)}

    def finish(self, inputs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Cuts the network in place and checks that the masked and the cut network have equal outputs.

        After an error the network is as it was before the call, and the gates are still attached.

        Args:
            inputs: arguments of the forward by name, one or more draws of them: [{"x": x}]. Give more than one draw for
                a network that makes discrete choices: rounding may flip a choice on one draw, while a wrong declaration
                shows on all draws.

        Returns:
            "masked_vs_compacted", the largest difference between the outputs relative to the largest output (median
            over the draws), and "ratio_achieved".

        Raises:
            PruningError: no network is attached, no `update` has closed gates, there are no inputs, the outputs cannot
                be compared, surgery cannot make the cut, or the cut network does not run; see `trials.try_cuts`.
            RuntimeError: the outputs differ by more than float rounding can explain, or are not finite for some draw;
                or the gates are folded.
        """
        attached = self._attached_gates()
        if attached.is_folded:
            raise RuntimeError("the gates are folded, so their weights cannot be cut; call finish() after the block")
        if self.planned_ratio == 1 and self.ratio < 1:
            raise PruningError(
                f"finish() would cut nothing, as no update has closed gates for ratio={self.ratio}; call update() "
                "before finish(inputs)"
            )
        network, draws = attached.network, list_draws(inputs, attached.network)
        try:
            error = cut_and_compare(attached, self.plan, draws, fold_values=self.kept_gates == "fold")
        except (CutError, PruningError, RuntimeError) as fault:
            if self._without_inputs:  # the trial cut has not run the network; this one names the group that is at fault
                try_cuts(network, self.groups, lambda _: draws[0], self.rules)
            if isinstance(fault, CutError):
                raise PruningError(f"the network cannot be cut to ratio={self.planned_ratio}: {fault}") from fault
            raise
        del self.gates  # the gates fit only the network before the cut
        return {"masked_vs_compacted": error, "ratio_achieved": self.ratio_achieved}

    def _attached_gates(self) -> Gates:
        """Returns the gates, on the device of the network.

        Raises:
            PruningError: no network is attached.
        """
        if not hasattr(self, "gates"):
            if hasattr(self, "plan"):
                raise PruningError("finish() has cut the network; attach it with attach(network, groups, inputs)")
            raise PruningError(
                "no network is attached; do so with attach(network, groups, inputs), or by a training with a "
                "PruningCallback, which attaches none at ratio=1"
            )
        return self.gates.to(next(self.gates.network.parameters()).device)

    def _groups_of_plan(self) -> list[Group]:
        """Returns the groups that `plan` refers to; raises PruningError before `attach`."""
        if not hasattr(self, "plan"):
            self._attached_gates()
        return self.groups

    def _rank(self, scores: Mapping[str, Tensor], groups: Sequence[Group]) -> dict[str, Tensor]:
        """Returns the ranks of all units by group name. Scopes of kinds that no group has are ignored."""
        kinds = {"default", *(g.kind for g in groups)}
        scope = {kind: pool for kind, pool in self.scope.items() if kind in kinds}
        return quantile_ranks(scores, groups, scope, self.normalise)

    def _counts(self) -> list[int]:
        """Returns the number of kept units of every group, in the order of the gates."""
        return [len(self.plan.units(g)) for g in self._groups_of_plan()]

    def _try_cuts(self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction | None) -> None:
        """Makes a trial cut, unless `check` has made it for the same network."""
        key = (type(network), tuple(groups), tuple(t.shape for t in network.parameters()))
        if self.ratio < 1 and self._tried != key:
            try_cuts(network, groups, inputs, self._budget.rules)
            self._tried = key
