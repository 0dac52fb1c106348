"""ViT-Slim's criterion: learnable gates under an l1 penalty."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion, check_kinds, check_penalty, setting_by_unit
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group


class Slim(Criterion):
    """Criterion |gate| of ViT-Slim and of the ICASSP 2023 paper. An l1 penalty drives the gates of useless units to 0.

    The criterion has its own optimizer for the gates. Gradients are averaged over ranks first, so gates stay equal on
    all ranks.

    Args:
        penalty: weight of |gate| in the loss, by kind, with "default" for all other kinds.
        travel: distance that a gate can move over the stage, relative to its initial value 1. Adam moves a gate by
            about its learning rate per step, so the learning rate is `travel / steps`. With a travel below 1, no gate
            reaches 0.
    """

    needs_gradients = True

    def __init__(self, penalty: Mapping[str, float] | None = None, travel: float = 2.0):
        if not travel > 0:
            raise PruningError(f"pruning.criterion.travel={travel} must be positive: gates start at 1, e.g. travel=2.0")
        self.penalty, self.travel = check_penalty(penalty), travel

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Checks the kinds in `penalty`."""
        check_kinds("criterion.penalty", self.penalty, groups)

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Builds the optimizer of the gates."""
        self.weights = setting_by_unit(self.penalty, gates)
        self.optimizer = torch.optim.Adam([gates.values], lr=self.travel / steps)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns the absolute gate values by group name."""
        return gates.split(gates.values.detach().abs())

    def after_step(self, gates: Gates) -> None:
        """Adds the gradient of the penalty and takes an optimizer step for the gates."""
        gates.gradients.add_(self.weights * gates.values.detach().sign())
        if gates.gradients.isfinite().all():  # otherwise a loss scaler skips this step for the weights, too
            self.optimizer.step()
        gates.values.data.clamp_(min=0)  # a step past 0 would make the penalty push the gate back up

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the optimizer; the gates are saved by the callback."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads the result of `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
