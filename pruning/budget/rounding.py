"""Rounding by measurement: the multiple of units that each group should keep so that a device's kernels are fast."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import floor, isclose
from typing import Any, NamedTuple

import torch
from torch import nn

from pruning.arguments import InputFunction
from pruning.budget.fitting import uniform_share
from pruning.cost import Cost
from pruning.cost.latency import copied_to, runnable, signature, synchronised_time, timed_operations
from pruning.cost.tracing import AffineSize, Operation
from pruning.errors import PruningError
from pruning.groups import Group

MULTIPLES = (1, 2, 4, 8, 16, 32)
# A coarser multiple leaves less choice of units. Its time counts as longer by this fraction of its share in the units
# that the group keeps: a multiple of a tenth of the group must be faster by 1 %.
CHARGE = 0.1
TURNS = 5  # of which the fastest counts
SECONDS_PER_TURN, MOST_REPEATS = 5e-4, 20  # short operations run repeatedly in each turn
OTHERS = 32  # all other groups keep a multiple of this number while one group is measured


def fast_multiples(
    network: nn.Module,
    groups: Sequence[Group],
    inputs: InputFunction,
    cost: Cost,
    ratio: float,
    device: str = "cpu",
) -> dict[str, int]:
    """Returns for each group the multiple whose counts take the least time per kept unit, by name.

    Candidates are `MULTIPLES`, and whole runs (heads) where all runs of a group are equally long. Every distinct
    operation that a group's size enters is timed alone, at counts near the one that the group keeps if all groups keep
    the same share. The candidate with the least time of all its operations wins; coarse ones are charged a little, as
    they leave less choice of units. Times of equal operations are measured once.

    Args:
        network: the network.
        groups: the groups that may be cut.
        inputs: returns the arguments of the forward.
        cost: cost as a function of kept counts, in the order of `groups`.
        ratio: fraction of the dense cost to keep.
        device: torch device on which the operations are timed.

    Raises:
        PruningError: the choice of operations depends on the kept units; see `LatencyCost`.
    """
    share = uniform_share([g.size for g in groups], cost, ratio)
    network = copied_to(network, device)
    try:
        operations = timed_operations(network, groups, inputs)
    except PruningError as error:
        raise PruningError(
            f"pruning.round_to=auto cannot be measured: {error}. Set a number, e.g. pruning.round_to=8"
        ) from error
    # Equal operations of the same groups are one part of a candidate's time.
    counted: dict[tuple[Any, tuple[int, ...]], _Counted] = {}
    for operation in operations:
        key, used_groups = signature(operation, groups)
        known = counted.get((key, used_groups))
        counted[key, used_groups] = _Counted(operation, used_groups, key, known.number + 1 if known else 1)
    clock = _Clock([min(g.size, max(1, _nearest(share * g.size, OTHERS))) for g in groups], device)
    multiples = {}
    for i, group in enumerate(groups):
        used = [c for c in counted.values() if i in c.used_groups]
        times = clock.total({m: list(_parts(group, i, share, m, used)) for m in _candidates(group, share)})
        charged = {m: time * (1 + CHARGE * m / max(share * group.size, 1)) for m, time in times.items()}
        multiples[group.name] = min(charged, key=charged.__getitem__)
    return multiples


class _Counted(NamedTuple):
    """Operation that runs a number of times.

    Attributes:
        operation: the operation.
        used_groups: the groups that it depends on.
        key: equal for operations of equal times.
        number: how often it runs.
    """

    operation: Operation
    used_groups: tuple[int, ...]
    key: Any
    number: int


class _Part(NamedTuple):
    """Operation for some counts, as a part of the time of a candidate.

    Attributes:
        weight: factor of its time.
        key: equal for parts of equal times, apart from the counts that are varied.
        operation: the operation.
        used_groups: the groups that it depends on.
        varied: counts that differ from those of the clock, by group.
    """

    weight: float
    key: Any
    operation: Operation
    used_groups: tuple[int, ...]
    varied: dict[int, int]


class _Clock:
    """Times of operations, each measured once.

    Args:
        kept: counts of all groups, unless they are varied.
        device: torch device on which the operations run.
    """

    def __init__(self, kept: Sequence[int], device: str):
        self.kept, self.device = kept, device
        self.measured: dict[Any, float] = {}

    def total(self, parts: Mapping[int, Sequence[_Part]]) -> dict[int, float]:
        """Returns the weighted sum of the milliseconds of the parts of each candidate."""
        places = {m: [self._place(part) for part in of] for m, of in parts.items()}
        new = {
            place: runnable(part.operation, self._counts(part), self.device)
            for m in parts
            for place, part in zip(places[m], parts[m], strict=True)
            if place not in self.measured
        }
        self.measured |= _times_in_turns(new, self.device)
        return {m: sum(p.weight * self.measured[at] for at, p in zip(places[m], parts[m], strict=True)) for m in parts}

    def _counts(self, part: _Part) -> list[int]:
        return [part.varied.get(i, count) for i, count in enumerate(self.kept)]

    def _place(self, part: _Part) -> tuple[Any, ...]:
        counts = self._counts(part)
        return part.key, tuple(counts[g] for g in part.used_groups)


def _candidates(group: Group, share: float) -> list[int]:
    """Returns the multiples that leave a choice of units if a group keeps a share of them."""
    length = _run_length(group)
    multiples = [m for m in MULTIPLES if m == 1 or (m <= share * length and m < length)]
    return multiples if length == group.size else [*multiples, length]


def _parts(group: Group, index: int, share: float, multiple: int, used: Sequence[_Counted]) -> Iterator[_Part]:
    """Yields what a group takes at a share of its units, with weights whose sum is that of the operations.

    Args:
        group, index: the group, and its index.
        share: share of its units that it keeps.
        multiple: a candidate.
        used: the operations that the group's size enters.
    """
    length = _run_length(group)
    heads = group.size // max(length, 1)
    if multiple == length < group.size:
        kept = max(1, round(share * heads))
        for operation, used_groups, key, number in used:
            fewer = _with_fewer_runs(operation, index, heads, kept, length)
            yield _Part(number * share * heads / kept, (key, "runs", kept), fewer, used_groups, {index: kept * length})
        return
    for count, weight in _odd_multiples(share * length, multiple, length):
        for operation, used_groups, key, number in used:
            yield _Part(number * weight, key, operation, used_groups, {index: heads * count})


def _run_length(group: Group) -> int:
    """Returns the units of each run, all units if there is one run or if the runs differ in length."""
    return group.runs[0] if len(set(group.runs)) == 1 and group.runs[0] > 1 else group.size


@torch.inference_mode()
def _times_in_turns(calls: Mapping[Any, Callable[[], Any]], device: str) -> dict[Any, float]:
    """Returns the milliseconds of the fastest run of each call. The calls take turns, so that all see the same load."""
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, min(MOST_REPEATS, int(SECONDS_PER_TURN / max(_seconds(call, 1, device), 1e-9))))
    fastest = dict.fromkeys(calls, float("inf"))
    for _ in range(TURNS):
        for name, call in calls.items():
            fastest[name] = min(fastest[name], 1e3 * _seconds(call, repeats[name], device) / repeats[name])
    return fastest


def _seconds(call: Callable[[], Any], repeats: int, device: str) -> float:
    """Returns the seconds that some runs of a call take: on the CPU those of this thread, whatever else runs."""
    clock = time.thread_time if device == "cpu" else partial(synchronised_time, device)
    start = clock()
    for _ in range(repeats):
        call()
    return clock() - start


def _odd_multiples(target: float, multiple: int, size: int) -> Iterator[tuple[int, float]]:
    """Yields the two odd multiples around a count, with weights whose mean is the count.

    Even multiples are left out, as they are multiples of a larger candidate. A count above `size` becomes `size`.
    """
    low = multiple * (2 * max(0, floor((target / multiple - 1) / 2)) + 1)
    high = min(size, low + 2 * multiple)
    above = min(1.0, max(0.0, (target - low) / (high - low))) if high > low else 0.0
    yield low, 1 - above
    yield high, above


def _with_fewer_runs(operation: Operation, group: int, runs: int, kept: int, length: int) -> Operation:
    """Returns an operation on a part of the runs, which keep all their units.

    A size that falls by 1 / `runs` per unit of the group is the width of a run. In an operation with such a size, a
    constant size of `runs` counts the runs.
    """
    sizes = [n for a in operation.arguments for n in (a if isinstance(a, tuple) else [a]) if isinstance(n, AffineSize)]
    widths = [n for n in sizes if isclose(dict(n.slopes).get(group, 0) * runs, 1)]
    if not widths:
        return operation

    def changed(size: Any) -> Any:
        if not isinstance(size, AffineSize):
            return size
        if size in widths:
            return AffineSize(size.fixed + length)
        return AffineSize(kept) if size == AffineSize(runs) else size

    arguments = tuple(tuple(map(changed, a)) if isinstance(a, tuple) else changed(a) for a in operation.arguments)
    return replace(operation, arguments=arguments)


def _nearest(count: float, multiple: int) -> int:
    return multiple * round(count / multiple)
