"""Network Slimming: scales of batch norms under an l1 penalty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pruning.cost import Cost
from pruning.criteria.criterion import Criterion, check_kinds, check_penalty, setting_by_unit
from pruning.criteria.magnitude import group_norms
from pruning.gates import Gates
from pruning.groups import Group


class NetworkSlimming(Criterion):
    """Criterion |scale| of the batch norm of a unit, which an l1 penalty drives to 0 (Liu et al., 2017).

    Scales are compared across layers without normalization, as they multiply channels that the norm has made equally
    large. If several norms write into one residual stream, the largest scale counts, as a channel can be removed only
    if no norm needs it. Scales that are not trained get scores, but no penalty.

    Groups without a trainable batch norm (constant norms, transformers) are scored by weight norms divided by the mean
    of the group, and have no penalty. These scores are not comparable with scales; a scope by kind separates them.

    Args:
        penalty: weight of |scale| in the loss, by kind, with "default" for all other kinds.
    """

    def __init__(self, penalty: Mapping[str, float] | None = None):
        self.penalty = check_penalty(penalty)

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Checks the kinds in `penalty`."""
        check_kinds("criterion.penalty", self.penalty, groups)

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Prepares the weights of the penalty for every unit."""
        self.weights = setting_by_unit(self.penalty, gates)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns the largest scales by group name."""
        scores = {}
        for group in gates.groups:
            largest = [scale.detach().float().abs()[entries].amax(1) for scale, entries in _scales(gates, group)]
            norms = group_norms(gates, group)
            scores[group.name] = torch.stack(largest).amax(0) if largest else norms / norms.mean().clamp_min(1e-12)
        return scores

    def after_step(self, gates: Gates) -> None:
        """Adds the gradient of the penalty to every scale that has a gradient."""
        for group, weight in zip(gates.groups, self.weights.split(gates.sizes), strict=True):
            for scale, entries in _scales(gates, group):
                if scale.grad is not None:
                    scale.grad[entries] += weight[:, None] * scale.detach()[entries].sign()


def _scales(gates: Gates, group: Group) -> list[tuple[Tensor, Tensor]]:
    """Returns the scales of the batch norms over a group, each with the entries of every unit, (size, n)."""
    units, scales = torch.arange(group.size, device=gates.values.device), []
    for s in group.slices:
        path, _, name = s.path.rpartition(".")
        norm = gates.network.get_submodule(path)
        if isinstance(norm, _BatchNorm) and name == "weight":
            entries = s.positions(units).reshape(-1, group.size, s.inner)
            scales.append((norm.weight, entries.transpose(0, 1).flatten(1)))
    return scales
