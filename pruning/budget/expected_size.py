"""The expected size of a cut network, before a training has ranked its units."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pruning.arguments import InputFunction
from pruning.cost import ParamCost, copy_to_meta, count_macs, count_params
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compacted


def expected_fractions(
    network: nn.Module,
    groups: Sequence[Group],
    inputs: InputFunction,
    plan_of: Callable[[Mapping[str, Tensor]], Plan],
) -> dict[str, list[float]]:
    """Returns about which fractions of the parameters ("params") and of the MACs ("macs") a cut keeps.

    Copies on the meta device are cut by several made-up rankings. For each quantity the list has the fraction by a
    random ranking, the smallest and the largest one. A real ranking may go beyond them if units of all kinds compete
    (scope "global").

    Args:
        network: the network.
        groups: the groups that are cut.
        inputs: returns the arguments of the forward whose MACs count.
        plan_of: returns the cut by the scores of all units, by group name.
    """
    meta = copy_to_meta(network)
    measured = [_sizes(meta, inputs)]
    for scores in _made_up_scores(meta, groups):
        measured.append(_sizes(compacted(meta, groups, plan_of(scores)), inputs))
    fractions = np.array(measured[1:]) / measured[0]
    expected = np.stack([fractions[0], fractions.min(0), fractions.max(0)], 1)
    return dict(zip(("params", "macs"), expected.tolist(), strict=True))


def _sizes(network: nn.Module, inputs: InputFunction) -> tuple[int, int]:
    """Returns the parameters and the MACs of a network."""
    return count_params(network), count_macs(network, inputs(network)).total


def _made_up_scores(network: nn.Module, groups: Sequence[Group]) -> Iterator[dict[str, Tensor]]:
    """Yields scores of all units by group name: random ones, and those that prefer units of many or of few weights."""
    numbers = torch.Generator().manual_seed(0)
    yield {g.name: torch.rand(g.size, generator=numbers, device="cpu") for g in groups}
    cost, sizes = ParamCost(network, groups), np.array([g.size for g in groups])
    weights_of_unit = [cost(sizes) - cost(sizes - one_less) for one_less in np.eye(len(sizes), dtype=int)]
    for sign in (1, -1):
        yield {g.name: torch.full((g.size,), sign * n) for g, n in zip(groups, weights_of_unit, strict=True)}
