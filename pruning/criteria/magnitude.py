"""Magnitude: scores from the norms of weights, without training."""

import torch
from torch import Tensor

from pruning.criteria.criterion import Criterion
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group, entries_first


class Magnitude(Criterion):
    """Criterion by the norm of all parameters that a unit cuts, in all tensors of its group.

    Raw norms reflect the sizes of tensors, so by default a norm counts relative to the mean of its group.

    Args:
        p: 1 for sums of absolute weights, 2 for Euclidean norms.
    """

    normalise = "mean"

    def __init__(self, p: int = 2):
        if p not in (1, 2):
            raise PruningError(f"pruning.criterion.p={p!r} is not known; choose p=1 or p=2, the order of the norm")
        self.p = p

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns the norms by group name. Buffers (batch statistics) are not included."""
        return {group.name: group_norms(gates, group, self.p) for group in gates.groups}


@torch.no_grad()
def group_norms(gates: Gates, group: Group, p: int = 2) -> Tensor:
    """Returns for every unit of a group the p-norm of all parameters that it cuts, (size,)."""
    units = torch.arange(group.size)
    parameters = dict(gates.network.named_parameters(remove_duplicate=False))
    powers = torch.zeros(group.size, device=gates.values.device)
    for s in (s for s in group.slices if s.path in parameters):
        entries = entries_first(parameters[s.path].float().abs().pow(p), s.dim).sum(1)
        for positions in s.positions(units):
            powers += entries[positions.to(entries.device)].view(group.size, s.inner).sum(1)
    return powers.pow(1 / p)
