"""Budgets: the plan that keeps the best-ranked units within a ratio, for any ranking and any cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.errors import PruningError
from pruning.groups import Group, branches
from pruning.plan import Plan


@dataclass(frozen=True)
class RemovalRules:
    """Rules for the removal of units: least share of a group, rounding, and whole branches.

    Attributes:
        floor: smallest share of units that a group keeps, as a fraction of the uniform share. The uniform share is the
            share at which the ratio is met if all groups keep the same share, so small ratios stay in reach. Every
            group also keeps at least one unit. With a floor of 0, groups that declare `vanish` may lose all their
            units, unless they share their residual branch with other groups.
        round_to: groups keep a multiple of this number of units, or all units. Kernels are fastest at multiples of 8.
            Every run of a group (every head) is rounded separately. A mapping has one number for each group's name.
        whole_branches: whether only whole residual branches are removed.
    """

    floor: float = 0.1
    round_to: int | Mapping[str, int] = 1
    whole_branches: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.floor, int | float) or not 0 <= self.floor <= 1:
            raise PruningError(
                f"pruning.floor={self.floor!r} must lie in [0, 1]: it is a fraction of the uniform share, e.g. 0.1"
            )
        for number in self.round_to.values() if isinstance(self.round_to, Mapping) else [self.round_to]:
            if not isinstance(number, int) or number < 1:
                raise PruningError(
                    f"pruning.round_to={number} must be a positive integer or auto: groups keep multiples of it, e.g. 8"
                )

    def multiple(self, group: Group) -> int:
        """Returns the number of which the group keeps multiples."""
        return self.round_to if isinstance(self.round_to, int) else self.round_to[group.name]


@dataclass(frozen=True)
class _Blocks:
    """Blocks of units that are removed together: one unit, several units of one group, or whole groups.

    Attributes:
        block_of_unit: for every group, the block of each of its units, (size,).
        sizes: number of units of each group in each block, (blocks, G), mostly zeros.
        rank: mean rank of the units of each block, (blocks,).
        run: run of units that each block belongs to, (blocks,). Within a run, later blocks have higher ranks.
        already_removed: (blocks,), true only for the block of all units that an earlier plan removed.
    """

    block_of_unit: list[np.ndarray]
    sizes: np.ndarray
    rank: np.ndarray
    run: np.ndarray
    already_removed: np.ndarray


def fit_plan(
    groups: Sequence[Group],
    ranks: Mapping[str, Tensor],
    cost: Cost,
    ratio: float,
    rules: RemovalRules = RemovalRules(),
    earlier: Plan | None = None,
) -> Plan:
    """Returns the plan that keeps the best-ranked units and costs at most `ratio` of the dense network.

    Units are removed in the order of `ranks` until the cost fits. Then removed units return, best rank first, as long
    as the cost still fits, so the cost comes as close to the budget as one unit allows. Costs are exact at every step,
    because cutting one group changes the cost of all others. With rounding or whole branches, blocks of units are
    removed instead of units.

    Args:
        groups: the groups that may be cut.
        ranks: rank of every unit by group name, (size,); the lowest rank is removed first.
        cost: cost as a function of kept counts, in the order of `groups`.
        ratio: fraction of the dense cost to keep, in (0, 1].
        rules: rules for the removal of units.
        earlier: an earlier plan whose removed units must stay removed.

    Raises:
        PruningError: the ratio is out of reach; the message says which ratio is the smallest in reach, and which groups
            make up the cost that remains.
    """
    sizes = [g.size for g in groups]
    dense = cost(sizes)
    if earlier is None and ratio == 1:
        return Plan()
    max_cost = _max_cost(ratio, dense)
    blocks = _make_blocks(groups, ranks, rules, earlier or Plan())
    min_counts, staying = _staying_blocks(blocks, _min_units(groups, cost, max_cost, rules))
    if cost(min_counts) > max_cost:
        raise PruningError(_out_of_reach(groups, blocks, cost, ratio, rules))
    order = np.lexsort((blocks.rank, ~blocks.already_removed))  # units that an earlier plan removed come first
    order = order[~staying[order]]
    counts = np.subtract(sizes, np.vstack([np.zeros(len(sizes), np.int64), blocks.sizes[order].cumsum(0)]))
    # Bisection: counts[high] fits; counts[low] does not fit, or keeps units that an earlier plan removed.
    low, high = int(blocks.already_removed.sum()) - 1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(counts[middle]) <= max_cost else (middle, high)
    kept, removed = counts[high], np.zeros(len(blocks.rank), bool)
    removed[order[:high]] = True
    too_large, closed_runs = set(), set()
    for block in order[:high][~blocks.already_removed[order[:high]]][::-1]:
        size, run = blocks.sizes[block], blocks.run[block]
        if run in closed_runs:
            continue
        if size.tobytes() not in too_large and cost(kept + size) <= max_cost:
            kept, removed[block] = kept + size, False
        else:  # Cost never falls, so no other block of this size fits. A run must keep its best blocks first.
            too_large.add(size.tobytes())
            closed_runs.add(run)
    return Plan(
        {
            g.name: tuple(np.flatnonzero(~removed[block_of_unit]).tolist())
            for g, block_of_unit in zip(groups, blocks.block_of_unit, strict=True)
        }
    )


def check_ratio(ratio: float) -> None:
    """Raises PruningError unless `ratio`, the fraction to keep, lies in (0, 1]."""
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio <= 1:
        kind = ", a number and not a text" if isinstance(ratio, str) else ""
        raise PruningError(f"ratio={ratio} must lie in (0, 1]: it is the fraction that is kept, e.g. ratio=0.25{kind}")


def _max_cost(ratio: float, dense: float) -> float:
    """Returns the largest allowed cost.

    It has a tolerance for float rounding: 0.29 of 100 units are 29 units, but `0.29 * 100 < 29`.
    """
    return ratio * dense * (1 + 1e-12)


def _make_blocks(groups: Sequence[Group], ranks: Mapping[str, Tensor], rules: RemovalRules, earlier: Plan) -> _Blocks:
    """Divides all units into blocks. The blocks of a run are ordered from its lowest to its highest ranks."""
    block_of_unit, count, first_of_run = [np.zeros(g.size, np.int64) for g in groups], 0, []
    rank_of_unit = [torch.as_tensor(ranks[g.name]).double().cpu().numpy() for g in groups]
    present = [np.isin(np.arange(g.size), earlier.units(g)) for g in groups]
    if rules.whole_branches:
        members = branches(groups)
        others = sorted({*range(len(groups))} - {i for branch in members for i in branch})
        for count, branch in enumerate([*members, *([i] for i in others)], 1):
            for i in branch:
                block_of_unit[i][:] = count - 1
    else:
        for blocks, rank, is_present, group in zip(block_of_unit, rank_of_unit, present, groups, strict=True):
            begin, multiple = 0, rules.multiple(group)
            for run in group.runs or (group.size,):
                worst_first = begin + rank[begin : begin + run].argsort(kind="stable")
                worst_first = worst_first[is_present[worst_first]]
                left = len(worst_first)
                first_of_run.append(count)
                # If the run is no multiple of this number, the first block is the smaller one.
                blocks[worst_first] = count + (np.arange(left) + -left % multiple) // multiple
                begin, count = begin + run, count + -(-left // multiple)
    for blocks, is_present in zip(block_of_unit, present, strict=True):
        blocks[~is_present] = count  # the last block
    count += 1
    units = np.concatenate([np.zeros(0, np.int64), *block_of_unit])
    sizes = np.zeros((count, len(groups)), np.int64)
    np.add.at(sizes, (units, np.repeat(np.arange(len(groups)), [g.size for g in groups])), 1)
    mean_rank = np.bincount(units, np.concatenate([np.zeros(0), *rank_of_unit]), count) / np.maximum(sizes.sum(1), 1)
    block = np.arange(count)
    run = np.searchsorted(first_of_run, block, side="right") if first_of_run else block
    return _Blocks(block_of_unit, sizes, mean_rank, run, block == count - 1)


def _min_units(groups: Sequence[Group], cost: Cost, max_cost: float, rules: RemovalRules) -> list[float]:
    """Returns the smallest number of units of every group, before blocks are considered."""
    share = rules.floor * _share_within([g.size for g in groups], cost, max_cost) if rules.floor else 0.0
    if rules.whole_branches:
        return [0.0 if g.vanish is not None else g.size for g in groups]
    # The smallest counts must fit the budget, so they are rounded down. A group that must not vanish keeps one unit.
    may_be_empty = [rules.floor == 0 and g.vanish is not None and g.branch is None for g in groups]
    return [max(int(share * g.size), 0 if empty else 1) for g, empty in zip(groups, may_be_empty, strict=True)]


def _staying_blocks(blocks: _Blocks, min_units: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest kept counts (G,) in whole blocks, and which blocks always stay, (blocks,).

    The best blocks of every group stay, as many as fit into its `min_units`.
    """
    min_counts, staying = np.zeros(len(min_units), np.int64), np.zeros(len(blocks.rank), bool)
    for i, smallest in enumerate(min_units):
        candidates = np.flatnonzero(blocks.sizes[:, i] * ~blocks.already_removed)
        best_first = candidates[np.lexsort((-candidates, -blocks.rank[candidates]))]
        counts = blocks.sizes[best_first, i].cumsum()
        # Rounding up could exceed the budget, so counts are rounded down, except for a group that must not be empty.
        enough = max(int(np.searchsorted(counts, smallest, side="right")), int(smallest >= 1 and len(candidates) > 0))
        staying[best_first[:enough]] = True
        min_counts[i] = counts[enough - 1] if enough else 0
    return min_counts, staying


def uniform_share(sizes: Sequence[int], cost: Cost, ratio: float) -> float:
    """Returns the share of units at which a ratio is met if every group keeps the same share.

    Args:
        sizes: number of units of each group.
        cost: cost as a function of kept counts.
        ratio: fraction of the dense cost to keep.
    """
    return _share_within(sizes, cost, _max_cost(ratio, cost(sizes)))


def _share_within(sizes: Sequence[int], cost: Cost, max_cost: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost([middle * n for n in sizes]) <= max_cost else (low, middle)
    return low


def _out_of_reach(groups: Sequence[Group], blocks: _Blocks, cost: Cost, ratio: float, rules: RemovalRules) -> str:
    """Returns the message for a ratio that is too small.

    The smallest ratio in reach is found by raising the ratio until it covers the cost of its own smallest counts.
    """
    sizes = [g.size for g in groups]
    dense, smallest = cost(sizes), ratio
    while True:
        min_counts, _ = _staying_blocks(blocks, _min_units(groups, cost, _max_cost(smallest, dense), rules))
        if (left := cost(min_counts)) <= _max_cost(smallest, dense):
            break
        smallest = math.ceil(1e4 * left / dense) / 1e4
    shares = [left - cost([0 if j == i else n for j, n in enumerate(min_counts)]) for i in range(len(groups))]
    largest = sorted(zip(shares, range(len(groups)), strict=True), reverse=True)[:3]
    remains = [f"{cost([0] * len(groups)) / dense:.2%} that no group cuts"]
    remains += [
        f"{share / dense:.2%} in '{groups[i].name}' ({min_counts[i]} of {sizes[i]} units)"
        for share, i in largest
        if share > 0
    ]
    count = f"{len(groups)} group{'s' * (len(groups) > 1)}"
    remedies = ["ask for a larger ratio", "prune more groups"]
    if rules.round_to != 1:
        remedies.append(f"round less (pruning.round_to=1, now {_in_words(rules.round_to)})")
    if rules.whole_branches:
        remedies.append("remove single units (pruning.whole_branches=False)")
    elif cost(_staying_blocks(blocks, _min_units(groups, cost, smallest * dense, replace(rules, floor=0.0)))[0]) < left:
        remedies.append(f"keep less of each group (pruning.floor=0, now {rules.floor})")
    return (
        f"ratio={ratio} is out of reach: the smallest is {smallest}, with {sum(min_counts)} of {sum(sizes)} units left "
        f"in {count}. The remaining cost is {', '.join(remains)}. Possible remedies: {'; '.join(remedies)}"
    )


def _in_words(round_to: int | Mapping[str, int]) -> str:
    """Returns a rounding as a few words for a message."""
    numbers = sorted({round_to} if isinstance(round_to, int) else set(round_to.values()))
    return f"{numbers[0]} to {numbers[-1]} by group" if len(numbers) > 1 else str(numbers[0])
