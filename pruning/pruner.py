"""The pruner: which units leave for a ratio, and the cut. It needs no training framework."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.budget import RemovalRules, check_ratio, fit
from pruning.cost import Cost, MacCost, ParamCost, UnitCost, on_meta
from pruning.criteria.criterion import Criterion, check_kinds
from pruning.gates import Gates
from pruning.groups import Group, check_groups
from pruning.latency import LatencyCost
from pruning.plan import Plan
from pruning.ranking import check_ranking, quantiles
from pruning.surgery import compact
from pruning.tracing import Inputs

RATIOS_OF = ("params", "macs", "units", "latency")
KEPT_GATES = ("fold", "one")


class Pruner:
    """Prunes any network that declares its groups.

        pruner = Pruner(ratio=0.25, criterion=Magnitude(), normalise="mean")
        pruner.attach(network, groups)
        pruner.update()                     # closes gates: the network computes what the cut one will
        pruner.finish(draws)                # cuts, and proves that both compute the same

    Criteria that learn need a training in between, see `PruningCallback`.

    Args:
        ratio: fraction to keep, in (0, 1].
        criterion: ranks units.
        ratio_of: of what: "params" (of the whole network), "macs" (of one forward), "latency" (the same, by a table of
            times measured on `device`) or "units" (of the prunable units alone: the ICASSP 2023 paper's budget).
        scope, normalise: which units compete, by kind, and how scores of groups are made comparable; see
            `ranking.quantiles`.
        floor, round_to, whole_branches: how units may leave, see `budget.RemovalRules`.
        regrow: whether units that have left may return at a later update if they rank well again.
        kinds: kinds of groups to prune; None for all.
        protect: names of groups that are not pruned, with wildcards: "backbone.blocks.0.*".
        kept_gates: what the gates of kept units have learned is multiplied into the child's weights ("fold"), or left
            behind, as ViT-Slim and the ICASSP 2023 paper do ("one").
        device: where times are measured.

    Attributes:
        gates: those of the attached network.
        plan, planned: the mask now, and the ratio that it was planned for.
    """

    def __init__(
        self,
        ratio: float,
        criterion: Criterion,
        ratio_of: str = "params",
        scope: Mapping[str, str] | None = None,
        normalise: str = "none",
        floor: float = 0.1,
        round_to: int = 1,
        whole_branches: bool = False,
        regrow: bool = False,
        kinds: Sequence[str] | None = None,
        protect: Sequence[str] = (),
        kept_gates: str = "fold",
        device: str = "cpu",
    ):
        check_ratio(ratio)
        for option, value, choices in (("ratio_of", ratio_of, RATIOS_OF), ("kept_gates", kept_gates, KEPT_GATES)):
            if value not in choices:
                raise ValueError(f"pruning.{option}={value} is not known; choose one of {choices}")
        self.scope, self.normalise = dict(scope or {"default": "global"}), normalise
        check_ranking(self.scope, normalise)
        self.ratio, self.ratio_of, self.criterion, self.device = ratio, ratio_of, criterion, device
        self.rules = RemovalRules(floor, round_to, whole_branches)
        self.regrow, self.kept_gates = regrow, kept_gates
        self.kinds, self.protect = kinds, list(protect)
        self._priced: tuple[Any, Cost] | None = None

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The groups that are pruned.

        Raises:
            ValueError: a chosen kind that no group has, a protected name that fits none, or a setting for a kind that
                is nearly spelt like one of theirs.
        """
        have = {g.kind for g in groups}
        if missing := sorted({*(self.kinds or ())} - have):
            raise ValueError(f"pruning.kinds names {missing}; this network has groups of the kinds {sorted(have)}")
        check_kinds("scope", self.scope, groups)
        self.criterion.check(groups, self.ratio_of)
        for pattern in self.protect:
            if not any(fnmatchcase(g.name, pattern) for g in groups):
                raise ValueError(f"pruning.protect names '{pattern}'; the groups are {[g.name for g in groups]}")
        return [
            g
            for g in groups
            if (self.kinds is None or g.kind in self.kinds) and not any(fnmatchcase(g.name, p) for p in self.protect)
        ]

    def check(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs | None = None) -> None:
        """Raises ValueError if the target cannot be reached, before anything is trained. Only shapes are read.

        Args:
            network, groups, inputs: as for `attach`.
        """
        chosen = self.select(check_groups(network, groups))
        if self.ratio == 1:
            return
        places = self._places({g.name: torch.ones(g.size) for g in chosen}, chosen)
        fit(chosen, places, self._price(network, chosen, inputs), self.ratio, self.rules)

    def attach(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs | None = None) -> None:
        """Puts open gates on the chosen ones of a network's groups.

        Args:
            network: the network.
            groups: its groups.
            inputs: gives the arguments of the forward that MACs and latency are of, also of a cut copy of the network.
        """
        self.gates = Gates(network, self.select(groups))
        self.cost = self._price(network, self.gates.groups, inputs)
        self.plan, self.planned = Plan(), 1.0

    def update(self, ratio: float | None = None) -> None:
        """Plans for `ratio` (by default the final one) by the present scores; closes the gates of units that leave.

        Nothing changes while the ratio stands still: weights that train at the final mask must not lose it again.

        Raises:
            ValueError: the ratio is not in (0, 1] or out of reach, see `budget.fit`.
        """
        ratio = self.ratio if ratio is None else ratio
        if ratio == self.planned:
            return
        groups = self.gates.groups
        gone = None if self.regrow else self.plan
        places = self._places(self.criterion(self.gates), groups)
        self.plan = fit(groups, places, self.cost, ratio, self.rules, gone)
        self.planned = ratio
        self.gates.close(self.plan)

    @property
    def achieved(self) -> float:
        """The ratio that the present plan keeps."""
        return self.cost(self._counts()) / self.cost(self.gates.sizes)

    def kept(self) -> dict[str, int]:
        """Number of kept units by group."""
        return {g.name: n for g, n in zip(self.gates.groups, self._counts(), strict=True)}

    def finish(self, inputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Turns the masked network into the compacted one, in place, and checks that they are the same.

        Args:
            inputs: draws of the arguments of its forward, on which masked and compacted outputs are compared. Take
                several for a network that makes discrete choices: rounding may flip one on a single draw, while a wrong
                declaration shows on all.

        Returns:
            "masked_vs_compacted", the largest difference relative to the largest output (median over the draws), and
            "ratio_achieved".

        Raises:
            ValueError: there are no inputs.
            RuntimeError: the outputs differ by more than float rounding can explain, or are not finite in some draw.
        """
        if not inputs:
            raise ValueError("inputs=[] compares nothing; give at least one draw of the network's arguments")
        network = self.gates.network
        gates = self.gates.to(next(network.parameters()).device)
        gates.close(self.plan)
        if self.kept_gates == "one":
            gates.values.data.fill_(1)
        network.eval()
        with torch.no_grad():
            with gates.folded():
                masked = [network(**draw) for draw in inputs]
            gates.bake()
            compact(network, gates.groups, self.plan)
            errors = torch.stack([_difference(m, network(**d)) for m, d in zip(masked, inputs, strict=True)])
        error = float(errors.quantile(0.5) if errors.isfinite().all() else errors.max())  # a nan is the maximum
        if not error < 1e-3:
            raise RuntimeError(
                f"the compacted network differs from the masked one by {error:.1e}: "
                "some group does not declare all that it cuts"
            )
        result = {"masked_vs_compacted": error, "ratio_achieved": self.achieved}
        del self.gates  # they describe the network before it was cut
        return result

    def _places(self, scores: Mapping[str, Tensor], groups: Sequence[Group]) -> dict[str, Tensor]:
        kinds = {"default", *(g.kind for g in groups)}
        scope = {kind: pool for kind, pool in self.scope.items() if kind in kinds}
        return quantiles(scores, groups, scope, self.normalise)

    def _counts(self) -> list[int]:
        return [len(self.plan.units(g)) for g in self.gates.groups]

    def _price(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs | None) -> Cost:
        """What the ratio is of. Measured once for the same network: two tables of times would differ."""
        counted = inputs is not None and self.ratio_of in ("macs", "latency")
        given = tree_leaves(inputs(on_meta(network))) if counted else []
        shapes = tuple(t.shape for t in (*network.parameters(), *given) if isinstance(t, Tensor))
        key = (self.ratio_of, tuple(groups), shapes)
        if self._priced is None or self._priced[0] != key:
            self._priced = (key, self._new_price(network, groups, inputs))
        return self._priced[1]

    def _new_price(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs | None) -> Cost:
        if self.ratio_of in ("macs", "latency") and inputs is None:
            raise ValueError(f"pruning.ratio_of={self.ratio_of} needs the inputs of a forward: attach(..., inputs=...)")
        if self.ratio_of == "macs":
            return MacCost(network, groups, inputs)
        if self.ratio_of == "latency":
            return LatencyCost(network, groups, inputs, self.device)
        return {"params": ParamCost, "units": UnitCost}[self.ratio_of](network, groups)


def _difference(masked: Any, compacted: Any) -> Tensor:
    """The largest difference relative to the largest entry of its output; nan stays nan, as it would not in Python."""
    differences = []
    for reference, found in zip(tree_leaves(masked), tree_leaves(compacted), strict=True):
        scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)  # two outputs of zeros are the same
        differences.append(((found - reference).abs().max() / scale).float())
    return torch.stack(differences).max()
