"""How gates that come with the ICASSP 2023 paper's files are read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GateReading:
    """Those files hold the gates, but neither the budget nor the masks that a child was trained with.

    Attributes:
        budget: fraction of units that a child keeps, their gates becoming 1; None for a file of the sparsity stage,
            whose gates scale the weights as they are.
        scope: which gates compete for the budget: "kind" (all layers together: `pruning_type` 1, "naive") or "layer"
            (`pruning_type` 2).
    """

    budget: float | None = None
    scope: str = "kind"

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget <= 1:
            raise ValueError(f"gates.budget={self.budget} must lie in (0, 1]: it is the fraction of units that is kept")
        if self.scope not in ("kind", "layer"):
            raise ValueError(f"gates.scope={self.scope} is not known; choose kind or layer")

    def kept(self, gates: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """The units at or above the threshold (`compress`, `compress_layerwise`), by name.

        Args:
            gates: those of one kind, each (n,). Ties at the threshold are all kept, and without a scope of "layer" a
                layer may lose everything.
        """
        pooled = torch.cat(list(gates.values()))
        thresholds = {
            name: self._threshold(pooled if self.scope == "kind" else values) for name, values in gates.items()
        }
        return {name: tuple((gates[name] >= t).nonzero()[:, 0].tolist()) for name, t in thresholds.items()}

    def _threshold(self, gates: Tensor) -> Tensor:
        return gates.sort().values[int((1 - self.budget) * len(gates))]


AS_THEY_ARE = GateReading()
