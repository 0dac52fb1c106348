"""Budgets: the plan that reaches a ratio exactly, for any ranking of units."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pruning.groups import Group
from pruning.plan import Plan

Cost = Callable[[Sequence[float]], float]


def fit(groups: Sequence[Group], places: Mapping[str, Tensor], cost: Cost, ratio: float, floor: float = 0.1) -> Plan:
    """The best-ranked plan whose cost is at most `ratio` of the dense one, and as close to it as one unit allows.

    Units leave in the order of `places` until the cost fits; then the best of those that left return while they still
    fit. Prices are exact at every step, because cutting one group changes the price of all others.

    Args:
        groups: the groups that may be cut.
        places: rank of every unit by group name, (size,), lowest leaves first.
        cost: cost as a function of kept counts, in the order of `groups`.
        ratio: fraction of the dense cost to keep, in (0, 1].
        floor: no group falls below this fraction of the uniform share (the share of units that every group would keep
            if all kept the same), nor below one unit. It scales with the ratio, so that small ratios stay reachable.
            With 0, groups that declare `vanish` may lose all their units; the others keep at least one.

    Raises:
        ValueError: ratio outside (0, 1], or out of reach (the message names the smallest one in reach); floor outside
            [0, 1].
    """
    check_ratio(ratio)
    if not 0 <= floor <= 1:
        raise ValueError(f"floor={floor} must lie in [0, 1]: it is a fraction of the share that all groups keep")
    sizes = [g.size for g in groups]
    asked = ratio * cost(sizes)
    ranks = [torch.as_tensor(places[g.name]).double().cpu() for g in groups]
    if cost(sizes) <= asked:
        return Plan()
    floors = _floors(groups, cost, asked, floor)
    if cost(floors) > asked:
        raise ValueError(
            f"ratio={ratio} is out of reach: with floor={floor}, {len(groups)} groups keep at least {sum(floors)} of "
            f"{sum(sizes)} units, and the smallest is {_smallest(groups, cost, ratio, floor)}. Ask for more, prune "
            "more kinds, or let groups vanish that may (floor=0)"
        )
    leaving = _leaving_order(ranks, floors)

    def counts(removed: int) -> list[int]:
        gone = torch.bincount(leaving[:removed, 0], minlength=len(sizes))
        return [n - int(g) for n, g in zip(sizes, gone, strict=True)]

    low, high = 0, len(leaving)  # cost(counts(high)) fits, cost(counts(low)) does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(counts(middle)) <= asked else (middle, high)
    kept, back = counts(high), set()
    full: set[int] = set()  # groups whose next unit no longer fits: prices only rise while units return
    for group, unit in leaving[:high].flip(0).tolist():
        if group in full:
            continue
        kept[group] += 1
        if cost(kept) <= asked:
            back.add((group, unit))
        else:
            kept[group] -= 1
            full.add(group)
    gone = set(map(tuple, leaving[:high].tolist())) - back
    return Plan({g.name: tuple(u for u in range(g.size) if (i, u) not in gone) for i, g in enumerate(groups)})


def check_ratio(ratio: float) -> None:
    """Raises ValueError unless `ratio`, the fraction to keep, lies in (0, 1]."""
    if not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise ValueError(f"ratio={ratio} must lie in (0, 1]: it is the fraction that is kept, e.g. ratio=0.25")


def _floors(groups: Sequence[Group], cost: Cost, asked: float, floor: float) -> list[int]:
    """The fewest units of every group, see `fit`."""
    if floor == 0:
        return [min(g.size, 1 if g.vanish is None else 0) for g in groups]
    share = floor * _uniform_share([g.size for g in groups], cost, asked)
    return [min(g.size, max(1, int(share * g.size))) for g in groups]  # rounded down: floors must fit the budget


def _smallest(groups: Sequence[Group], cost: Cost, ratio: float, floor: float) -> float:
    """The smallest ratio in reach, to 1e-4 above. Floors rise with the ratio: it is raised until it covers its own."""
    dense = cost([g.size for g in groups])
    while (lowest := cost(_floors(groups, cost, ratio * dense, floor))) > ratio * dense:
        ratio = math.ceil(1e4 * lowest / dense) / 1e4
    return ratio


def _uniform_share(sizes: Sequence[int], cost: Cost, asked: float) -> float:
    """The share of units that meets the budget when every group keeps the same share."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost([middle * n for n in sizes]) <= asked else (low, middle)
    return low


def _leaving_order(ranks: Sequence[Tensor], floors: Sequence[int]) -> Tensor:
    """(group, unit) of every unit that may leave, first to last, (n, 2); each group's best `floors` never leave."""
    rows, values = [], []
    for i, (rank, floor) in enumerate(zip(ranks, floors, strict=True)):
        units = rank.argsort(stable=True)[: len(rank) - floor]
        rows.append(torch.stack([torch.full_like(units, i), units], 1))
        values.append(rank[units])
    return torch.cat(rows)[torch.cat(values).argsort(stable=True)]
