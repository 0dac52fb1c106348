"""What every criterion is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.gates import Gates
from pruning.groups import Group


class Criterion(ABC):
    """Scores every unit; higher means more worth keeping.

    Those that learn from a training are told when it starts, before weights are gated, and when gradients are there.

    Attributes:
        needs_gradients: whether scores come out of training steps. Without them weights alone are looked at, and no
            training is needed.
        knows_ratio: whether what it does in a training depends on the ratio, or on what the ratio is of.
    """

    needs_gradients = False
    knows_ratio = False

    @abstractmethod
    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Scores by group name, each (size,), non-negative."""

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Raises ValueError if a setting does not fit these groups, or what the ratio is of."""

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Told when a sparsity stage begins: the open gates, what the ratio is of and how large, and its length."""

    def before_step(self, gates: Gates, progress: float) -> None:
        """Told before gates are folded for a step at `progress` in [0, 1] of the stage."""

    def after_step(self, gates: Gates) -> None:
        """Told when the step's gradients are there, of weights and of `gates.values`; nothing is folded.

        Gradients of weights may be changed (penalties); they are clipped, and the weights are moved, afterwards.
        """

    def state_dict(self) -> dict[str, Any]:
        """What it has learned, for checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there; called after `start`."""


def by_unit(setting: Mapping[str, float], gates: Gates) -> Tensor:
    """A setting by kind, with "default" for all others (0 without), as a vector like `gates.values`."""
    values = [setting.get(g.kind, setting.get("default", 0.0)) for g in gates.groups]
    sizes = torch.tensor(gates.sizes, device=gates.values.device)
    return torch.tensor(values, device=gates.values.device, dtype=torch.float32).repeat_interleave(sizes)


def check_kinds(option: str, named: Mapping[str, Any], groups: Sequence[Group]) -> None:
    """Raises ValueError if `option` names a kind that is nearly spelt like one of the network's.

    One for quite another kind stays without effect: one configuration serves several networks.
    """
    have = {g.kind for g in groups}
    missing = [n for n in sorted({*named} - {*have, "default"}) if get_close_matches(n, have, cutoff=0.75)]
    if missing:
        raise ValueError(f"pruning.{option} names {missing}; this network has groups of the kinds {sorted(have)}")
