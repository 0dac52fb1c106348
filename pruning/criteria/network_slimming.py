"""Network Slimming: the scales of batch norms under an l1 penalty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion, by_unit, check_kinds
from pruning.criteria.magnitude import group_norms
from pruning.gates import Gates
from pruning.groups import Group


class NetworkSlimming(Criterion):
    """|scale| of a unit's batch norm, which an l1 penalty drives to 0 (Liu et al., 2017).

    Scales are compared as they are, across layers: they multiply channels that the norm has made equally large. Where
    several norms write into one residual stream the largest scale counts, as a channel can go only if none of them
    needs it. Scales that are not trained are ranked, but not penalised.

    Groups without a batch norm that could be trained (constant norms, transformers) are ranked by weight norms over
    their group's mean, and nothing is learned for them. Such ranks do not compare with scales: a scope by kind keeps
    the two apart.

    Args:
        penalty: weight of |scale|, by kind, with "default" for all others.
    """

    def __init__(self, penalty: Mapping[str, float] | None = None):
        self.penalty = dict(penalty or {})

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """The kinds of `penalty`."""
        check_kinds("criterion.penalty", self.penalty, groups)

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Weights of the penalty, unit by unit."""
        self.weights = by_unit(self.penalty, gates)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Largest scales by group."""
        scores = {}
        for group in gates.groups:
            largest = [scale.detach().float().abs()[entries].amax(1) for scale, entries in _scales(gates, group)]
            norms = group_norms(gates, group)
            scores[group.name] = torch.stack(largest).amax(0) if largest else norms / norms.mean().clamp_min(1e-12)
        return scores

    def after_step(self, gates: Gates) -> None:
        """Penalises |scale| of every batch norm that has a gradient."""
        for group, weight in zip(gates.groups, self.weights.split(gates.sizes), strict=True):
            for scale, entries in _scales(gates, group):
                if scale.grad is not None:
                    scale.grad[entries] += weight[:, None] * scale.detach()[entries].sign()


def _scales(gates: Gates, group: Group) -> list[tuple[Tensor, Tensor]]:
    """Scales of the batch norms over a group's units, each with the entries (size, n) that belong to every unit."""
    units, found = torch.arange(group.size, device=gates.values.device), []
    for s in group.slices:
        path, _, name = s.path.rpartition(".")
        norm = gates.network.get_submodule(path)
        if isinstance(norm, _BatchNorm) and name == "weight":
            entries = s.positions(units).view(len(s.offsets), group.size, s.inner)
            found.append((norm.weight, entries.transpose(0, 1).flatten(1)))
    return found
