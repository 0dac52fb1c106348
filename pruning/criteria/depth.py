"""Depth pruning: scores of whole residual branches."""

import operator
from functools import reduce

from torch import Tensor

from pruning.criteria.taylor import Taylor
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group, branches


class Depth(Taylor):
    """Criterion of residual branches: the first-order estimate of the change of the loss without the whole branch.

    The score is |dL/ds| for a scale s = 1 on the output of the branch: the sum of weight times gradient over the
    weights that read the last group of the branch. All units of the branch get this score; use the criterion with
    `whole_branches`. A closed branch passes no gradient to these weights, so it never returns.
    """

    def importance(self, gates: Gates) -> Tensor:
        """Returns the scores of one step (units,): equal within a branch, 0 for groups that cannot vanish."""
        scores = gates.gradients * 0
        by_group, gradients = scores.split(gates.sizes), gates.gradients.split(gates.sizes)
        for members in branches(gates.groups):
            change = _branch_gradient(gates, gates.groups[members[-1]], gradients[members[-1]])
            for i in members:
                by_group[i].copy_(change.abs().expand_as(by_group[i]))
        return scores


def _branch_gradient(gates: Gates, group: Group, gate_gradients: Tensor) -> Tensor:
    """Returns dL/ds for a scale s = 1 on the output of a branch.

    Args:
        gates: the gates.
        group: last group of the branch.
        gate_gradients: gradients of the gates of `group`, (size,).

    Raises:
        PruningError: the weights that read the group have neither gates nor gradients.
    """
    inner = tuple(f"{module}." for module in group.vanish or ())  # e.g. squeeze-and-excitation
    readers = [s for s in group.slices if s.dim == 1 and not (inner and s.path.startswith(inner))]
    if readers and all(s.gated for s in readers):
        return gate_gradients.sum()
    weights = [gates.network.get_parameter(s.path) for s in readers]
    changes = [(p.detach() * p.grad).sum() for p in weights if p.grad is not None]
    if not weights or len(changes) < len(weights):
        raise PruningError(
            f"depth pruning cannot score '{group.name}': the weights {[s.path for s in readers]} that read it are not "
            "trained; train them, or list the group in pruning.protect"
        )
    return reduce(operator.add, changes)
