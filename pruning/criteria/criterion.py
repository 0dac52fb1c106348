"""Base class of all criteria, and helpers for settings by kind of group."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group


class Criterion(ABC):
    """Criterion that gives every unit a score. Units with higher scores are kept.

    A criterion that learns from a training implements `start`, `before_step` and `after_step`, which are called when
    the sparsity stage starts, before the gates are folded for a step, and when the gradients of a step are complete.

    Attributes:
        needs_gradients: whether scores come from training steps; otherwise they come from the weights alone.
        knows_ratio: whether the training depends on the ratio or on the quantity that the ratio refers to.
        normalise: normalization of the scores of a group that makes them comparable; see `ranking.quantile_ranks`.
    """

    needs_gradients = False
    knows_ratio = False
    normalise = "none"

    @abstractmethod
    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns non-negative scores by group name, each (size,)."""

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Raises PruningError if a setting does not fit these groups or the quantity that the ratio refers to."""

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Prepares for a sparsity stage.

        Args:
            gates: the gates, all open.
            cost: the cost that the ratio refers to.
            ratio: the final ratio.
            steps: number of training steps of the stage.
        """

    def before_step(self, gates: Gates, progress: float) -> None:
        """Runs before the gates are folded for a step at `progress` in [0, 1] of the stage; does nothing by default."""

    def after_step(self, gates: Gates) -> None:
        """Runs when the gradients of the weights and of `gates.values` are complete; does nothing by default.

        Gradients of weights may be changed (penalties). They are clipped afterwards, before the optimizer step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns the learned state of the criterion, for checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads the result of `state_dict`; called after `start`."""


def setting_by_unit(setting: Mapping[str, float], gates: Gates) -> Tensor:
    """Returns a setting by kind as a vector over all units, in the order of `gates.values`.

    Args:
        setting: value by kind, with "default" for all other kinds (0 if there is no default).
        gates: the gates.
    """
    values = [setting.get(g.kind, setting.get("default", 0.0)) for g in gates.groups]
    sizes = torch.tensor(gates.sizes, device=gates.values.device)
    return torch.tensor(values, device=gates.values.device, dtype=torch.float32).repeat_interleave(sizes)


def check_penalty(penalty: Mapping[str, float] | None) -> dict[str, float]:
    """Returns the weights of a penalty by kind.

    Raises:
        PruningError: `penalty` does not name kinds, or a weight is no number from 0.
    """
    weights = {} if penalty is None else penalty
    if not isinstance(weights, Mapping):
        raise PruningError(f"pruning.criterion.penalty={penalty!r} must name kinds; e.g. {{'default': 1e-4}} for all")
    for kind, weight in weights.items():
        if not isinstance(weight, int | float) or not weight >= 0:
            raise PruningError(
                f"pruning.criterion.penalty of '{kind}' is {weight!r}; it must not be negative, e.g. 1e-4"
            )
    return dict(weights)


def check_kinds(option: str, named: Mapping[str, Any], groups: Sequence[Group]) -> None:
    """Raises PruningError if a kind in `named` is a probable misspelling of a kind of the network.

    Other unknown kinds have no effect and raise no error, as one configuration may serve several networks.

    Args:
        option: name of the setting, for the message.
        named: the setting by kind.
        groups: the groups of the network.
    """
    have = {g.kind for g in groups}
    missing = [n for n in sorted({*named} - {*have, "default"}) if get_close_matches(n, have, cutoff=0.75)]
    if missing:
        raise PruningError(f"pruning.{option} names {missing}; this network has groups of the kinds {sorted(have)}")
