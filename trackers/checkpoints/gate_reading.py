"""How gates that come with the ICASSP 2023 paper's files are read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.gates import Gates
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.contents import CheckpointError


@dataclass(frozen=True)
class GateReading:
    """Those files hold the gates, but neither the budget nor the masks that a child was trained with.

    Attributes:
        budget: fraction of units that a child keeps, their gates becoming 1; None for a file of the sparsity stage,
            whose gates scale the weights as they are.
        scope: which gates compete for the budget: "kind" (all layers of a kind together: OSTrack's `pruning_type` 1,
            "naive"; STARK's `compress_sep`) or "layer" (`pruning_type` 2, `compress_layerwise`).
    """

    budget: float | None = None
    scope: str = "kind"

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget <= 1:
            raise ValueError(f"gates.budget={self.budget} must lie in (0, 1]: it is the fraction of units that is kept")
        if self.scope not in ("kind", "layer"):
            raise ValueError(f"gates.scope={self.scope} is not known; choose kind or layer")

    def apply(self, network: nn.Module, groups: list[Group], gates: Mapping[str, Tensor]) -> Plan:
        """Scales the network's weights by the gates, or cuts it to the budget, in place.

        Args:
            network: with its weights.
            groups: its groups.
            gates: values by group name, each (size,).

        Returns:
            What was cut.

        Raises:
            CheckpointError: gates of other groups, or a budget and no gates.
        """
        if not gates:
            if self.budget is not None:
                raise CheckpointError(f"gates.budget={self.budget}, but the file holds no gates; leave it null")
            return Plan()
        gated = [g for g in groups if g.name in gates]
        if wrong := sorted(gates.keys() - {g.name for g in gated if g.size == len(gates[g.name])}):
            raise CheckpointError(f"gates that fit no group of the tracker: {wrong}")
        if self.budget is None:
            soft = Gates(network, gated)
            soft.values.data = torch.cat([gates[g.name] for g in gated]).to(soft.values)
            soft.bake()
            return Plan()
        kinds = {g.kind for g in gated}
        pools = [{g.name: gates[g.name] for g in gated if g.kind == kind} for kind in sorted(kinds)]
        plan = Plan({name: units for pool in pools for name, units in self._kept(pool).items()})
        compact(network, groups, plan)
        return plan

    def _kept(self, gates: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """The units at or above the threshold; all of equals, so that a layer may lose everything, or nothing."""
        pooled = torch.cat(list(gates.values()))
        kept = {}
        for name, values in gates.items():
            pool = pooled if self.scope == "kind" else values
            threshold = pool.sort().values[int((1 - self.budget) * len(pool))]
            kept[name] = tuple((values >= threshold).nonzero()[:, 0].tolist())
        return kept


AS_THEY_ARE = GateReading()
