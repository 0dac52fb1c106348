"""Criteria from the gradients of a training: first-order importance and Fisher information of gates."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion
from pruning.errors import PruningError
from pruning.gates import Gates


class Taylor(Criterion):
    """Criterion |dL/dg| at gate g = 1: the first-order estimate of the change of the loss without the unit.

    This is the importance of Molchanov et al. (2019) for the whole unit: the gradient of the gate is the sum of weight
    times gradient over all weights that the gate scales. One batch is noisy, so the score is a running mean over the
    steps of the stage. Gates are not learned. For a closed unit the score is the effect of opening it, which a product
    with the value of the gate would hide.

    Args:
        memory: weight of the previous mean in the running mean, in [0, 1).
    """

    needs_gradients = True

    def __init__(self, memory: float = 0.95):
        if not 0 <= memory < 1:
            raise PruningError(
                f"pruning.criterion.memory={memory} must lie in [0, 1): weight of the old mean, e.g. 0.95"
            )
        self.memory = memory

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Resets the running means."""
        self.mean, self.steps_seen = torch.zeros_like(gates.values.data), 0

    def after_step(self, gates: Gates) -> None:
        """Updates the running means, unless a gradient overflowed."""
        importance = self.importance(gates)
        if importance.isfinite().all():
            self.mean.lerp_(importance, 1 - self.memory)
            self.steps_seen += 1

    def importance(self, gates: Gates) -> Tensor:
        """Returns the importance of every unit in one step, (units,)."""
        return gates.gradients.abs()

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns the running means by group name.

        Raises:
            PruningError: there has been no training step.
        """
        if not getattr(self, "steps_seen", 0):
            raise PruningError(
                f"{type(self).__name__} ranks by gradients, but has seen no training step before the first update; "
                "train with a PruningCallback whose schedule starts later, e.g. Cubic(start=0.2), or choose Magnitude()"
            )
        return gates.split(self.mean)

    def state_dict(self) -> dict[str, Any]:
        """Returns the running means and the number of steps."""
        return {"mean": self.mean, "seen": self.steps_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads the result of `state_dict`."""
        self.mean.copy_(state["mean"])
        self.steps_seen = state["seen"]


class Fisher(Taylor):
    """Criterion (dL/dg)^2 at gate g = 1: twice the second-order change of the loss without the unit.

    The second derivative is approximated by the empirical Fisher information. At a minimum of the loss the first-order
    terms average out and this term remains (Theis et al., 2018).
    """

    def importance(self, gates: Gates) -> Tensor:
        """Returns the importance of every unit in one step, (units,)."""
        return gates.gradients.square()
