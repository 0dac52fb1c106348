"""The cost that a ratio refers to, and the rules of removal: both may need measurements of the network on a device."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.arguments import InputFunction
from pruning.budget.fitting import RemovalRules
from pruning.budget.rounding import fast_multiples
from pruning.cost import Cost, MacCost, ParamCost, UnitCost, copy_to_meta
from pruning.cost.latency import LatencyCost
from pruning.errors import PruningError
from pruning.groups import Group

log = logging.getLogger(__name__)

RATIOS_OF = ("params", "macs", "units", "latency")


class MeasuredBudget:
    """Makes the cost and the rules for a network.

    Both are kept for the same network, because two measurements of times would differ.

    Args:
        ratio: fraction to keep.
        ratio_of: quantity that the ratio refers to, one of `RATIOS_OF`.
        floor, round_to, whole_branches: as in `RemovalRules`; round_to="auto" measures the multiple of every group.
        device: torch device on which times are measured.

    Attributes:
        rules: the rules before a measurement, with single units in place of "auto".

    Raises:
        PruningError: a setting is out of its range or does not exist.
    """

    def __init__(
        self, ratio: float, ratio_of: str, floor: float, round_to: int | str, whole_branches: bool, device: str
    ):
        if ratio_of not in RATIOS_OF:
            raise PruningError(f"pruning.ratio_of={ratio_of} is not known; choose one of {RATIOS_OF}")
        self._rounds_by_time = round_to == "auto"
        if isinstance(round_to, str) and not self._rounds_by_time:
            raise PruningError(
                f"pruning.round_to={round_to} must be a positive integer or auto: groups keep multiples of it, e.g. 8"
            )
        self.rules = RemovalRules(floor, 1 if isinstance(round_to, str) else round_to, whole_branches)
        self.ratio, self.ratio_of, self.device = ratio, ratio_of, device
        self._measured: tuple[Any, Cost, RemovalRules] | None = None

    def __call__(
        self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction | None
    ) -> tuple[Cost, RemovalRules]:
        """Returns the cost that the ratio refers to, and the rules, with multiples that are measured for "auto".

        Args:
            network: the network.
            groups: the groups that may be cut.
            inputs: returns the arguments of a forward.

        Raises:
            PruningError: a measurement needs `inputs`, or is not possible.
        """
        needs_inputs = inputs is not None and (self.ratio_of in ("macs", "latency") or self._rounds_by_time)
        arguments = tree_leaves(inputs(copy_to_meta(network))) if needs_inputs else []
        shapes = tuple(t.shape for t in (*network.parameters(), *arguments) if isinstance(t, Tensor))
        key = (tuple(groups), shapes)
        if self._measured is None or self._measured[0] != key:
            cost, rules = self._new_cost(network, groups, inputs), self.rules
            if self._rounds_by_time and self.ratio < 1 and not self.rules.whole_branches:
                rules = replace(rules, round_to=self._fast_multiples(network, groups, inputs, cost))
            self._measured = (key, cost, rules)
        return self._measured[1:]

    def _fast_multiples(
        self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction | None, cost: Cost
    ) -> dict[str, int]:
        """Returns the fast multiple of each group, and logs how many groups have which."""
        if inputs is None:
            raise PruningError(
                "pruning.round_to=auto measures operations, which needs the arguments of a forward: "
                "attach(..., inputs=...); or set a number, e.g. round_to=8"
            )
        multiples = fast_multiples(network, groups, inputs, cost, self.ratio, self.device)
        for kind in dict.fromkeys(g.kind for g in groups):
            counts = Counter(multiples[g.name] for g in groups if g.kind == kind)
            log.info("groups of kind %s keep multiples of %s", kind, " or ".join(map(str, sorted(counts))))
        return multiples

    def _new_cost(self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction | None) -> Cost:
        if self.ratio_of not in ("macs", "latency"):
            return {"params": ParamCost, "units": UnitCost}[self.ratio_of](network, groups)
        if inputs is None:
            raise PruningError(
                f"pruning.ratio_of={self.ratio_of} needs the arguments of a forward: attach(..., inputs=...)"
            )
        if self.ratio_of == "macs":
            return MacCost(network, groups, inputs)
        return LatencyCost(network, groups, inputs, self.device)
