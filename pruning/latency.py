"""What a forward takes on a device, for any number of kept units: a table of measured times, one entry an operation."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only, tree_unflatten

from pruning.groups import Group
from pruning.tracing import Call, Inputs, Layout, trace

SHARES = (0.03, 0.125, 0.25, 0.5, 0.75, 1.0)  # of each group's units, that operations are timed at
BUDGET = 2e-3  # seconds that one entry may take, once it has run three times


class LatencyCost:
    """Milliseconds of one forward (eager, as the network is) on a device.

    Every operation that computes something is timed by itself, at some shares of the groups that its sizes depend on,
    and in between times are interpolated. The sum over all operations is held against the whole forward: what it lacks
    is overhead that no cut takes away, and if it is more, all times are scaled down. Times never fall with more units:
    where the clock says so, the larger one counts.

    It is a model. How far it is off for a child says its measured latency, which every result holds.

    Args:
        network: the network the groups belong to.
        groups: its groups; `cost(kept)` takes their kept counts in this order.
        inputs: gives the arguments of the forward of a cut copy of it.
        device: where it is timed.

    Raises:
        ValueError: which operations run depends on the units that are there (heads of several widths, which may fall
            into fewer buckets when they are cut).
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], inputs: Inputs, device: str = "cpu"):
        network = copy.deepcopy(network).to(device).eval()
        self.device, self.groups = device, list(groups)
        counts = [[max(1, round(s * g.size)) for s in SHARES] for g in groups]
        self.counts = torch.tensor(counts, dtype=torch.float64).view(-1, len(SHARES))
        self.may_vanish = torch.tensor([g.vanish is not None for g in groups], dtype=torch.bool)
        calls = [c for c in trace(network, groups, inputs).calls if c.tensors and not c.function.is_view]
        known: dict[Any, Tensor] = {}
        found: dict[int, list[tuple[tuple[int, ...], Tensor]]] = defaultdict(list)
        with torch.inference_mode():
            for call in calls:
                key, of = _signature(call, self.groups)
                if key not in known:
                    known[key] = self._measure(call, of)
                found[len(of)].append((of, known[key]))
        self.constant = sum(float(table) for _, table in found.pop(0, []))
        self.tables = [
            (torch.tensor([of for of, _ in entries]), torch.stack([table for _, table in entries]))
            for entries in found.values()
        ]
        given = tree_map_only(Tensor, lambda t: t.to(device), dict(inputs(network)))
        self._calibrate(lambda: network(**given))

    def __call__(self, kept: Sequence[float]) -> float:
        """Milliseconds when `kept[i]` units of group i stay."""
        kept = torch.as_tensor(kept, dtype=torch.float64)
        upper = torch.searchsorted(self.counts, kept[:, None]).clamp(1, len(SHARES) - 1)
        low, high = self.counts.gather(1, upper - 1), self.counts.gather(1, upper)
        way = ((kept[:, None] - low) / (high - low).clamp_min(1)).clamp(0, 1)[:, 0]
        gone, upper = (kept == 0) & self.may_vanish, upper[:, 0]
        total = self.constant
        for of, times in self.tables:
            there = ~gone[of].any(1)
            for dim in reversed(range(of.shape[1])):
                at = upper[of[:, dim]].view(-1, *[1] * (times.dim() - 1)).expand(*times.shape[:-1], 1)
                share = way[of[:, dim]].view(-1, *[1] * (times.dim() - 2))
                times = torch.lerp(times.gather(-1, at - 1)[..., 0], times.gather(-1, at)[..., 0], share)
            total += float((times * there).sum())
        return total

    def _measure(self, call: Call, of: tuple[int, ...]) -> Tensor:
        """Milliseconds at all combinations of shares of the groups that the call depends on: (S,) * len(of)."""
        table = torch.empty((len(SHARES),) * len(of), dtype=torch.float64)
        kept = [float(g.size) for g in self.groups]
        for place in product(range(len(SHARES)), repeat=len(of)):
            for group, share in zip(of, place, strict=True):
                kept[group] = float(self.counts[group, share])
            table[place] = _milliseconds(_call(call, kept, self.device), self.device)
        for dim in range(len(of)):
            table = table.cummax(dim).values
        return table

    def _calibrate(self, forward: Callable[[], Any]) -> None:
        """Makes the sum for the whole network what the whole network takes."""
        with torch.inference_mode():
            whole = _milliseconds(forward, self.device, runs=20)
        found = self([g.size for g in self.groups])
        if found < whole:
            self.constant += whole - found
        else:
            self.constant *= whole / found
            self.tables = [(of, times * (whole / found)) for of, times in self.tables]


def _signature(call: Call, groups: Sequence[Group]) -> tuple[Any, tuple[int, ...]]:
    """What tells a call's time, whichever groups it is of; and these groups."""
    numbers = [n for a in call.arguments for n in (a if isinstance(a, tuple) else [a]) if hasattr(n, "slopes")]
    of = tuple(dict.fromkeys(group for number in numbers for group, _ in number.slopes))
    shown = tuple(
        tuple((n.fixed, tuple((of.index(g), slope) for g, slope in n.slopes)) for n in a)
        if isinstance(a, tuple)
        else (a.fixed, tuple((of.index(g), slope) for g, slope in a.slopes))
        if hasattr(a, "slopes")
        else repr(a)
        for a in call.arguments
    )
    return (call.function, shown, call.layouts, tuple(groups[g].size for g in of)), of


def _call(call: Call, kept: Sequence[float], device: str) -> Callable[[], Any]:
    """The operation with sizes as they are for `kept`, on numbers that do not matter."""
    layouts = iter(call.layouts)
    leaves = []
    for argument in call.arguments:
        if isinstance(argument, tuple):
            leaves.append(_tensor([round(n(kept)) for n in argument], next(layouts), device))
        else:
            leaves.append(round(argument(kept)) if hasattr(argument, "slopes") else argument)
    args, kwargs = tree_unflatten(leaves, call.spec)
    return lambda: call.function(*args, **kwargs)


def _tensor(sizes: Sequence[int], layout: Layout, device: str) -> Tensor:
    """Laid out in memory as it was; indices all point to the first entry."""
    order = layout.order
    stored = torch.zeros([sizes[d] for d in order], dtype=layout.dtype, device=device)
    if layout.dtype.is_floating_point:
        stored.uniform_()
    return stored.permute([order.index(d) for d in range(len(order))])


def _milliseconds(call: Callable[[], Any], device: str, runs: int = 3) -> float:
    """The fastest of at least `runs` runs, more of what is short: other work on the machine only makes it slower."""
    call()
    times, started = [], time.perf_counter()
    while len(times) < runs or (time.perf_counter() - started < BUDGET and len(times) < 50):
        begin = clock(device)
        call()
        times.append(clock(device) - begin)
    return 1e3 * min(times)


def clock(device: str) -> float:
    """Seconds, once all work that was given to the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
