"""Budgets: the plan that reaches a ratio exactly, for any ranking of units."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pruning.cost import Cost
from pruning.groups import Group, branches
from pruning.plan import Plan


@dataclass(frozen=True)
class RemovalRules:
    """How units may leave.

    Attributes:
        floor: no group falls below this fraction of the uniform share (the share of units that every group would keep
            if all kept the same), nor below one unit. It scales with the ratio, so that small ratios stay reachable.
            With 0, groups that declare `vanish` may lose all their units, unless they share their residual branch with
            others; all others keep at least one.
        round_to: groups keep multiples of so many units (or all): kernels are fastest at multiples of 8. Every run of a
            group (every head) is rounded by itself.
        whole_branches: residual branches leave as a whole, and nothing else does.
    """

    floor: float = 0.1
    round_to: int = 1
    whole_branches: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor={self.floor} must lie in [0, 1]: a fraction of the share that all groups keep")
        if not isinstance(self.round_to, int) or self.round_to < 1:
            raise ValueError(f"round_to={self.round_to} must be a whole number from 1; counts are multiples of it")


@dataclass(frozen=True)
class _Blocks:
    """What leaves in one piece: one unit, several of one group, or whole groups.

    Attributes:
        of_unit: for every group, the block of each of its units, (size,).
        sizes: how many units of which group a block holds, (blocks, G), mostly zeros.
        place: mean place of the units, (blocks,).
        run: of a run's blocks, the best return first; which run each is of, (blocks,).
        barred: whether the block must be gone, (blocks,): that of all units that are gone.
    """

    of_unit: list[np.ndarray]
    sizes: np.ndarray
    place: np.ndarray
    run: np.ndarray
    barred: np.ndarray


def fit(
    groups: Sequence[Group],
    places: Mapping[str, Tensor],
    cost: Cost,
    ratio: float,
    rules: RemovalRules = RemovalRules(),
    gone: Plan | None = None,
) -> Plan:
    """The best-ranked plan whose cost is at most `ratio` of the dense one, and as close to it as one unit allows.

    Units leave in the order of `places` until the cost fits; then the best of those that left return while they still
    fit. Prices are exact at every step, because cutting one group changes the price of all others. Where units leave in
    blocks (rounding, whole branches), a block takes the place of one unit.

    Args:
        groups: the groups that may be cut.
        places: rank of every unit by group name, (size,), lowest leaves first.
        cost: cost as a function of kept counts, in the order of `groups`.
        ratio: fraction of the dense cost to keep, in (0, 1].
        rules: how units may leave.
        gone: an earlier plan, if what it has cut must stay cut.

    Raises:
        ValueError: ratio outside (0, 1], or out of reach; the message names the smallest one in reach, and what is left
            then.
    """
    check_ratio(ratio)
    sizes = [g.size for g in groups]
    dense = cost(sizes)
    if gone is None and ratio == 1:
        return Plan()
    asked = _asked(ratio, dense)
    blocks = _blocks(groups, places, rules, gone or Plan())
    floors, staying = _staying(blocks, _shares(groups, cost, asked, rules))
    if cost(floors) > asked:
        raise ValueError(_out_of_reach(groups, blocks, cost, ratio, rules))
    order = np.lexsort((blocks.place, ~blocks.barred))  # what must be gone leaves first
    order = order[~staying[order]]
    counts = np.subtract(sizes, np.vstack([np.zeros(len(sizes), np.int64), blocks.sizes[order].cumsum(0)]))
    # cost(counts[high]) fits; cost(counts[low]) does not, or lacks something that must be gone.
    low, high = int(blocks.barred.sum()) - 1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(counts[middle]) <= asked else (middle, high)
    kept, removed = counts[high], np.zeros(len(blocks.place), bool)
    removed[order[:high]] = True
    full, waiting = set(), set()
    for block in order[:high][~blocks.barred[order[:high]]][::-1]:
        size, run = blocks.sizes[block], blocks.run[block]
        if run in waiting:
            continue
        if size.tobytes() not in full and cost(kept + size) <= asked:
            kept, removed[block] = kept + size, False
        else:  # cost never falls: no other of this size will fit; and the rest of a run has to be its last block
            full.add(size.tobytes())
            waiting.add(run)
    return Plan(
        {g.name: tuple(np.flatnonzero(~removed[of]).tolist()) for g, of in zip(groups, blocks.of_unit, strict=True)}
    )


def check_ratio(ratio: float) -> None:
    """Raises ValueError unless `ratio`, the fraction to keep, lies in (0, 1]."""
    if not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise ValueError(f"ratio={ratio} must lie in (0, 1]: it is the fraction that is kept, e.g. ratio=0.25")


def _asked(ratio: float, dense: float) -> float:
    """The cost to stay within. 0.29 of 100 units are 29, although `0.29 * 100` is a little less."""
    return ratio * dense * (1 + 1e-12)


def _blocks(groups: Sequence[Group], places: Mapping[str, Tensor], rules: RemovalRules, gone: Plan) -> _Blocks:
    """Divides all units into blocks; of a run, those that leave first are its worst."""
    of_unit, count, firsts = [np.zeros(g.size, np.int64) for g in groups], 0, []
    ranks = [torch.as_tensor(places[g.name]).double().cpu().numpy() for g in groups]
    there = [np.isin(np.arange(g.size), gone.units(g)) for g in groups]
    if rules.whole_branches:
        members = branches(groups)
        alone = sorted({*range(len(groups))} - {i for branch in members for i in branch})
        for count, branch in enumerate([*members, *([i] for i in alone)], 1):
            for i in branch:
                of_unit[i][:] = count - 1
    else:
        for of, rank, is_there, group in zip(of_unit, ranks, there, groups, strict=True):
            begin = 0
            for run in group.runs or (group.size,):
                worst_first = begin + rank[begin : begin + run].argsort(kind="stable")
                worst_first = worst_first[is_there[worst_first]]
                left = len(worst_first)
                firsts.append(count)
                # A run that is no multiple loses the rest first.
                of[worst_first] = count + (np.arange(left) + -left % rules.round_to) // rules.round_to
                begin, count = begin + run, count + -(-left // rules.round_to)
    for of, is_there in zip(of_unit, there, strict=True):
        of[~is_there] = count  # the last block
    count += 1
    units = np.concatenate([np.zeros(0, np.int64), *of_unit])
    sizes = np.zeros((count, len(groups)), np.int64)
    np.add.at(sizes, (units, np.repeat(np.arange(len(groups)), [g.size for g in groups])), 1)
    place = np.bincount(units, np.concatenate([np.zeros(0), *ranks]), count) / np.maximum(sizes.sum(1), 1)
    block = np.arange(count)
    run = np.searchsorted(firsts, block, side="right") if firsts else block
    return _Blocks(of_unit, sizes, place, run, block == count - 1)


def _shares(groups: Sequence[Group], cost: Cost, asked: float, rules: RemovalRules) -> list[float]:
    """The fewest units of every group, before blocks are considered."""
    share = rules.floor * _uniform_share([g.size for g in groups], cost, asked) if rules.floor else 0.0
    if rules.whole_branches:
        return [0.0 if g.vanish is not None else g.size for g in groups]
    # Rounded down, as floors must fit the budget; but some unit stays, unless all may go, and by themselves.
    mortal = [rules.floor == 0 and g.vanish is not None and g.branch is None for g in groups]
    return [max(int(share * g.size), 0 if may else 1) for g, may in zip(groups, mortal, strict=True)]


def _staying(blocks: _Blocks, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """What groups keep in any case: kept counts (G,), and which blocks: their best, as many as fit into the shares."""
    floors, staying = np.zeros(len(shares), np.int64), np.zeros(len(blocks.place), bool)
    for i, share in enumerate(shares):
        own = np.flatnonzero(blocks.sizes[:, i] * ~blocks.barred)
        best_first = own[np.lexsort((-own, -blocks.place[own]))]
        counts = blocks.sizes[best_first, i].cumsum()
        # Rounding up could miss the budget; only a group that must not be empty gets more than its share.
        enough = max(int(np.searchsorted(counts, share, side="right")), int(share >= 1 and len(own) > 0))
        staying[best_first[:enough]] = True
        floors[i] = counts[enough - 1] if enough else 0
    return floors, staying


def _uniform_share(sizes: Sequence[int], cost: Cost, asked: float) -> float:
    """The share of units that meets the budget when every group keeps the same share."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost([middle * n for n in sizes]) <= asked else (low, middle)
    return low


def _out_of_reach(groups: Sequence[Group], blocks: _Blocks, cost: Cost, ratio: float, rules: RemovalRules) -> str:
    """The message for a ratio below the smallest one, which is found by raising it until it covers its own floors."""
    sizes = [g.size for g in groups]
    dense, smallest = cost(sizes), ratio
    while True:
        floors, _ = _staying(blocks, _shares(groups, cost, _asked(smallest, dense), rules))
        if (left := cost(floors)) <= _asked(smallest, dense):
            break
        smallest = math.ceil(1e4 * left / dense) / 1e4
    prices = [left - cost([0 if j == i else n for j, n in enumerate(floors)]) for i in range(len(groups))]
    most = sorted(zip(prices, range(len(groups)), strict=True), reverse=True)[:3]
    stay = [f"{cost([0] * len(groups)) / dense:.2%} that no group cuts"]
    stay += [f"{price / dense:.2%} with '{groups[i].name}' ({floors[i]} units)" for price, i in most if price > 0]
    return (
        f"ratio={ratio} is out of reach: the smallest is {smallest}, with {sum(floors)} of {sum(sizes)} units left in "
        f"{len(groups)} groups (floor={rules.floor}, round_to={rules.round_to}, "
        f"whole_branches={rules.whole_branches}). In the way stand {', '.join(stay)}. Ask for more, prune more "
        "kinds, round less, or let groups vanish that may (floor=0)"
    )
