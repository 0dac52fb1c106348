"""Latency: the time of a forward for any kept counts, from tables of measured times of its operations."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only, tree_unflatten

from pruning.arguments import InputFunction
from pruning.cost.tracing import AffineSize, Layout, Operation, trace
from pruning.groups import Group

SHARES = (0.03, 0.125, 0.25, 0.5, 0.75, 1.0)  # fractions of each group's units at which operations are timed
SECONDS_PER_ENTRY = 2e-3  # an entry is timed repeatedly until this time has passed, but at least three times


class LatencyCost:
    """Milliseconds of one forward (eager mode) on a device.

    Every operation that computes something is timed alone, at some fractions of the units of the groups on which its
    sizes depend. Times in between are interpolated. The sum over all operations is compared with the time of the whole
    forward. If the sum is smaller, the difference is added as overhead that no cut removes. If the sum is larger, all
    times are scaled down. If a measured time falls with more units, the larger time is used.

    The cost is an estimate. The latency of the cut network must be measured.

    Args:
        network: the network.
        groups: the groups of the network; `cost(kept)` takes their kept counts in this order.
        inputs: returns the arguments of the forward.
        device: torch device on which the operations are timed.

    Raises:
        PruningError: the choice of operations depends on the kept units (heads of several widths, which may fall into
            fewer buckets when they are cut).
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], inputs: InputFunction, device: str = "cpu"):
        network = copied_to(network, device)
        self.device, self.groups = device, list(groups)
        counts = [[max(1, round(s * g.size)) for s in SHARES] for g in groups]
        self.counts = torch.tensor(counts, dtype=torch.float64).view(-1, len(SHARES))
        self.may_vanish = torch.tensor([g.vanish is not None for g in groups], dtype=torch.bool)
        operations = timed_operations(network, groups, inputs)
        measured: dict[Any, Tensor] = {}
        tables: dict[int, list[tuple[tuple[int, ...], Tensor]]] = defaultdict(list)  # by number of groups
        with torch.inference_mode():
            for operation in operations:
                key, used_groups = signature(operation, self.groups)
                if key not in measured:
                    measured[key] = self._measure(operation, used_groups)
                tables[len(used_groups)].append((used_groups, measured[key]))
        self.constant = sum(float(table) for _, table in tables.pop(0, []))
        self.tables = [
            (torch.tensor([used_groups for used_groups, _ in entries]), torch.stack([table for _, table in entries]))
            for entries in tables.values()
        ]
        arguments = tree_map_only(Tensor, lambda t: t.to(device), dict(inputs(network)))
        self._calibrate(lambda: network(**arguments))

    def __call__(self, kept: Sequence[float] | np.ndarray) -> float:
        """Returns the milliseconds when `kept[i]` units of group i are kept."""
        counts = torch.as_tensor(kept, dtype=torch.float64)
        upper = torch.searchsorted(self.counts, counts[:, None]).clamp(1, len(SHARES) - 1)
        low, high = self.counts.gather(1, upper - 1), self.counts.gather(1, upper)
        fraction = ((counts[:, None] - low) / (high - low).clamp_min(1)).clamp(0, 1)[:, 0]
        vanished, upper = (counts == 0) & self.may_vanish, upper[:, 0]
        total = self.constant
        for used_groups, times in self.tables:
            runs = ~vanished[used_groups].any(1)
            for dim in reversed(range(used_groups.shape[1])):
                index = upper[used_groups[:, dim]].view(-1, *[1] * (times.dim() - 1)).expand(*times.shape[:-1], 1)
                weight = fraction[used_groups[:, dim]].view(-1, *[1] * (times.dim() - 2))
                times = torch.lerp(times.gather(-1, index - 1)[..., 0], times.gather(-1, index)[..., 0], weight)
            total += float((times * runs).sum())
        return total

    def _measure(self, operation: Operation, used_groups: tuple[int, ...]) -> Tensor:
        """Returns the milliseconds for all combinations of `SHARES` of the used groups: (S,) * len(used_groups)."""
        table = torch.empty((len(SHARES),) * len(used_groups), dtype=torch.float64)
        kept = [float(g.size) for g in self.groups]
        for entry in product(range(len(SHARES)), repeat=len(used_groups)):
            for group, share in zip(used_groups, entry, strict=True):
                kept[group] = float(self.counts[group, share])
            table[entry] = milliseconds(runnable(operation, kept, self.device), self.device)
        for dim in range(len(used_groups)):
            table = table.cummax(dim).values
        return table

    def _calibrate(self, forward: Callable[[], Any]) -> None:
        """Makes the cost of the dense network equal to the measured time of its forward."""
        with torch.inference_mode():
            measured = milliseconds(forward, self.device, runs=20)
        predicted = self([g.size for g in self.groups])
        if predicted < measured:
            self.constant += measured - predicted
        else:
            self.constant *= measured / predicted
            self.tables = [(used_groups, times * (measured / predicted)) for used_groups, times in self.tables]


def copied_to(network: nn.Module, device: str) -> nn.Module:
    """Returns a copy of a network on a device, in evaluation mode."""
    return copy.deepcopy(network).to(device).eval()


def timed_operations(network: nn.Module, groups: Sequence[Group], inputs: InputFunction) -> list[Operation]:
    """Returns the operations of a forward that compute something, with sizes as functions of the kept counts."""
    return [o for o in trace(network, groups, inputs).operations if o.tensors and not o.function.is_view]


def signature(operation: Operation, groups: Sequence[Group]) -> tuple[Any, tuple[int, ...]]:
    """Returns a key that is equal for operations with equal times, and the groups that the operation depends on.

    The key holds the sizes of the groups and not their indices: equal layers of a network have equal keys.
    """
    sizes = [n for a in operation.arguments for n in (a if isinstance(a, tuple) else [a]) if isinstance(n, AffineSize)]
    used_groups = tuple(dict.fromkeys(group for size in sizes for group, _ in size.slopes))

    def key_of(size: AffineSize) -> tuple:
        return size.fixed, tuple((used_groups.index(group), slope) for group, slope in size.slopes)

    arguments = tuple(
        tuple(key_of(n) for n in a) if isinstance(a, tuple) else key_of(a) if isinstance(a, AffineSize) else repr(a)
        for a in operation.arguments
    )
    return (operation.function, arguments, operation.layouts, tuple(groups[g].size for g in used_groups)), used_groups


def runnable(operation: Operation, kept: Sequence[float], device: str) -> Callable[[], Any]:
    """Returns a function that runs the operation on dummy tensors, with its sizes for `kept` units of all groups."""
    layouts = iter(operation.layouts)
    leaves: list[Any] = []
    for argument in operation.arguments:
        if isinstance(argument, tuple):
            layout = next(layouts)
            assert layout is not None
            leaves.append(_dummy_tensor([round(n(kept)) for n in argument], layout, device))
        else:
            leaves.append(round(argument(kept)) if isinstance(argument, AffineSize) else argument)
    assert operation.spec is not None
    args, kwargs = tree_unflatten(leaves, operation.spec)
    return lambda: operation.function(*args, **kwargs)


def _dummy_tensor(sizes: Sequence[int], layout: Layout, device: str) -> Tensor:
    """Returns a tensor with the given sizes and layout: random numbers, or zeros (valid indices) for integers."""
    order = layout.order
    stored = torch.zeros([sizes[d] for d in order], dtype=layout.dtype, device=device)
    if layout.dtype.is_floating_point:
        stored.uniform_()
    return stored.permute([order.index(d) for d in range(len(order))])


def milliseconds(call: Callable[[], Any], device: str, runs: int = 3) -> float:
    """Returns the milliseconds of the fastest run after one warm-up run. Other work on the machine only adds time.

    Args:
        call: the function to time.
        device: torch device on which it computes.
        runs: smallest number of timed runs; short calls run up to 50 times within `SECONDS_PER_ENTRY`.
    """
    call()
    times, started = [], time.perf_counter()
    while len(times) < runs or (time.perf_counter() - started < SECONDS_PER_ENTRY and len(times) < 50):
        begin = synchronised_time(device)
        call()
        times.append(synchronised_time(device) - begin)
    return 1e3 * min(times)


def synchronised_time(device: str) -> float:
    """Returns the time in seconds after all work queued on the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
