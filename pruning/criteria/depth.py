"""Depth: whole residual branches leave instead of single units."""

from torch import Tensor

from pruning.criteria.taylor import Taylor
from pruning.gates import Gates
from pruning.groups import Group, branches


class Depth(Taylor):
    """By how much the loss would change, to first order, without a whole residual branch.

    That is |dL/ds| for a scale s = 1 on what the branch adds: the sum of weight times gradient over the weights that
    read its last group. Every unit of the branch gets this score; use it with `whole_branches`. A closed branch passes
    no gradient to those weights, so that it never returns.
    """

    def importance(self, gates: Gates) -> Tensor:
        """The same for all units of a branch; 0 for groups that cannot vanish, and keep all their units."""
        scores = gates.values.grad * 0
        by_group, opened = scores.split(gates.sizes), gates.values.grad.split(gates.sizes)
        for members in branches(gates.groups):
            change = _change(gates, gates.groups[members[-1]], opened[members[-1]])
            for i in members:
                by_group[i].copy_(change.abs().expand_as(by_group[i]))
        return scores


def _change(gates: Gates, group: Group, opened: Tensor) -> Tensor:
    """dL/ds of what reads a group; `opened`: the gradients of its gates (size,).

    Raises:
        RuntimeError: the weights that read it have neither gates nor gradients.
    """
    readers = [s for s in group.slices if s.dim == 1]
    if readers and all(s.gated for s in readers):
        return opened.sum()
    weights = [gates.network.get_parameter(s.path) for s in readers]
    if not weights or any(p.grad is None for p in weights):
        raise RuntimeError(
            f"depth cannot rank '{group.name}': {[s.path for s in readers]}, which read it, are not trained; train "
            "them, or leave the group out with pruning.protect"
        )
    return sum((p.detach() * p.grad).sum() for p in weights)
