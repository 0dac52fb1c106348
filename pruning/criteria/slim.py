"""ViT-Slim's criterion: learnable gates under an l1 penalty."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion, by_unit, check_kinds
from pruning.gates import Gates
from pruning.groups import Group


class Slim(Criterion):
    """|gate|: the ranking of ViT-Slim and of the ICASSP 2023 paper, whose l1 penalty drives useless gates to 0.

    Gates have an optimiser of their own: as they see gradients after these were reduced, they stay equal on all ranks.

    Args:
        penalty: weight of |gate|, by kind, with "default" for all others.
        travel: how far a gate may move over the stage, in units of its initial value 1. Adam moves a gate by about its
            learning rate a step, so the rate is `travel / steps`; below 1, no gate can reach 0.
    """

    needs_gradients = True

    def __init__(self, penalty: Mapping[str, float] | None = None, travel: float = 2.0):
        self.penalty, self.travel = dict(penalty or {}), travel

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """The kinds of `penalty`."""
        check_kinds("criterion.penalty", self.penalty, groups)

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """A fresh optimiser."""
        self.weights = by_unit(self.penalty, gates)
        self.optimizer = torch.optim.Adam([gates.values], lr=self.travel / steps)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Absolute gate values by group."""
        return gates.split(gates.values.detach().abs())

    def after_step(self, gates: Gates) -> None:
        """Penalises |gate| and moves the gates."""
        gates.values.grad += self.weights * gates.values.detach().sign()
        if gates.values.grad.isfinite().all():  # else a loss scaler skips this step of the weights, too
            self.optimizer.step()
        gates.values.data.clamp_(min=0)  # a step past 0 would make the penalty push the gate back up

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's; gates are saved by whoever holds them."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the same moments."""
        self.optimizer.load_state_dict(state["optimizer"])
