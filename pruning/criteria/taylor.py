"""What a training's gradients say about units: first-order importance and the Fisher information of gates."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion
from pruning.gates import Gates


class Taylor(Criterion):
    """|dL/dg| at gate g = 1: by how much the loss would change, to first order, without the unit.

    It is the importance of Molchanov et al. (2019), for all that a unit is at once: the gradient by the gate is the sum
    of weight times gradient over all that the gate scales. One batch is noise: the score is a running mean over the
    steps of the stage. Gates are not learned. For a closed unit it is what opening it would do, which a product with
    the gate's value would hide.

    Args:
        memory: share of the past in the running mean, step by step.
    """

    needs_gradients = True

    def __init__(self, memory: float = 0.95):
        if not 0 <= memory < 1:
            raise ValueError(f"pruning.criterion.memory={memory} must lie in [0, 1): share of the past, e.g. 0.95")
        self.memory = memory

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Nothing seen yet."""
        self.mean, self.seen = torch.zeros_like(gates.values.data), 0

    def after_step(self, gates: Gates) -> None:
        """Takes a step's gradients in, unless they overflowed."""
        seen = self.importance(gates)
        if seen.isfinite().all():
            self.mean.lerp_(seen, 1 - self.memory)
            self.seen += 1

    def importance(self, gates: Gates) -> Tensor:
        """Of every unit in one step."""
        return gates.values.grad.abs()

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Running means by group.

        Raises:
            RuntimeError: no step was seen.
        """
        if not getattr(self, "seen", 0):
            raise RuntimeError(
                f"{type(self).__name__} ranks by gradients and has seen none; run a sparsity stage whose schedule "
                "starts later, e.g. stages.sparsity.steps=200 pruning.schedule.start=0.2"
            )
        return gates.split(self.mean)

    def state_dict(self) -> dict[str, Any]:
        """Running means."""
        return {"mean": self.mean, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self.mean.copy_(state["mean"])
        self.seen = state["seen"]


class Fisher(Taylor):
    """(dL/dg)^2 at g = 1: twice the loss's second-order change without the unit, by the empirical Fisher information.

    Where the loss is at its minimum, first-order terms average out and this one is left (Theis et al., 2018).
    """

    def importance(self, gates: Gates) -> Tensor:
        """Of every unit in one step."""
        return gates.values.grad.square()
