"""Interpretation of the gates in checkpoints of the ICASSP 2023 paper: they scale weights, or a budget cuts units."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.gates import Gates
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.errors import CheckpointError, TrackerError


@dataclass(frozen=True)
class GateReading:
    """Settings for files of the ICASSP 2023 paper, which contain gates but neither the budget nor the mask of a child.

    Attributes:
        budget: fraction of units that a child keeps; the gates of the kept units are then taken as 1. None for a file
            of the sparsity stage, whose gates scale the weights.
        scope: pool of gates that compete for the budget: "kind" for all layers of a kind (OSTrack's `pruning_type` 1,
            "naive"; STARK's `compress_sep`) or "layer" (`pruning_type` 2, `compress_layerwise`).

    Raises:
        TrackerError: the budget is not in (0, 1], or the scope is not known.
    """

    budget: float | None = None
    scope: str = "kind"

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget <= 1:
            raise TrackerError(f"gates.budget={self.budget} must lie in (0, 1]: the fraction of units that are kept")
        if self.scope not in ("kind", "layer"):
            raise TrackerError(f"gates.scope={self.scope} is not known; choose kind or layer")

    def apply(self, network: nn.Module, groups: list[Group], gates: Mapping[str, Tensor]) -> Plan:
        """Scales the network's weights by the gates, or cuts the network to the budget, in place.

        Args:
            network: network with its weights.
            groups: groups of the network.
            gates: gate values by group name, each (size,).

        Returns:
            The plan of the cut; an empty one if weights were scaled.

        Raises:
            CheckpointError: the gates fit no groups, or there is a budget but no gates.
        """
        if not gates:
            if self.budget is not None:
                raise CheckpointError(f"gates.budget={self.budget}, but the file has no gates; set gates.budget=null")
            return Plan()
        gated = [g for g in groups if g.name in gates]
        if wrong := sorted(gates.keys() - {g.name for g in gated if g.size == len(gates[g.name])}):
            raise CheckpointError(f"gates that fit no group of the tracker: {wrong}")
        if self.budget is None:
            soft = Gates(network, gated)
            soft.values.data = torch.cat([gates[g.name] for g in gated]).to(soft.values)
            soft.fold_permanently()
            return Plan()
        kinds = {g.kind for g in gated}
        pools = [{g.name: gates[g.name] for g in gated if g.kind == kind} for kind in sorted(kinds)]
        plan = Plan({name: units for pool in pools for name, units in self._kept(pool, self.budget).items()})
        compact(network, groups, plan)
        return plan

    def _kept(self, gates: Mapping[str, Tensor], budget: float) -> dict[str, tuple[int, ...]]:
        """Returns the units whose gates reach the threshold, by group name.

        Units with equal gates are all kept or all removed, so a layer may lose all units.
        """
        pooled = torch.cat(list(gates.values()))
        kept = {}
        for name, values in gates.items():
            pool = pooled if self.scope == "kind" else values
            threshold = pool.sort().values[int((1 - budget) * len(pool))]
            kept[name] = tuple((values >= threshold).nonzero()[:, 0].tolist())
        return kept


DEFAULT_READING = GateReading()  # gates scale the weights; no unit is cut
