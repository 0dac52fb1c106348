"""Which operations a network runs, with all their sizes as functions of how many units stay.

A network is run as it is, and a few times with about half of the units of some groups. A whole number in an operation
that falls exactly when a certain group is cut depends on that group, in proportion to the units that went. So costs
that follow from sizes (multiply-accumulates, times) know every coupling without being told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, count
from math import comb
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only

from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compacted


@dataclass(frozen=True)
class Linear:
    """A whole number that depends on kept counts: `fixed` plus, for every (group, slope), slope times its count."""

    fixed: float
    slopes: tuple[tuple[int, float], ...] = ()

    def __call__(self, kept: Sequence[float]) -> float:
        """The number when `kept[i]` units of group i stay."""
        return self.fixed + sum(slope * kept[group] for group, slope in self.slopes)


Shape = tuple[Linear, ...]
Inputs = Callable[[nn.Module], Mapping[str, Any]]  # the arguments of a network's forward, also of a cut copy's


class Layout(NamedTuple):
    """How a tensor lies in memory: its type, and its dims from the outermost to the innermost."""

    dtype: torch.dtype
    order: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One operation: which, and with what.

    Attributes:
        function: torch's operator.
        arguments: its flattened arguments: a `Shape` for a tensor, `Linear` for a whole number, else the value itself.
        layouts: of the tensors among them, in order.
        spec: puts the arguments back together, as (args, kwargs).
        result: shape of its (first) result.
    """

    function: Any
    arguments: tuple[Any, ...]
    layouts: tuple[Layout | None, ...]
    spec: TreeSpec | None
    result: Shape

    @property
    def tensors(self) -> list[Shape]:
        """Shapes of the tensors among the arguments."""
        return [a for a in self.arguments if isinstance(a, tuple)]


class Sized(NamedTuple):
    """What is remembered of a tensor."""

    shape: tuple[int, ...]
    layout: Layout | None = None

    @classmethod
    def of(cls, tensor: Tensor) -> "Sized":
        """A tensor's."""
        order = sorted(range(tensor.dim()), key=lambda d: -tensor.stride(d))
        return cls(tuple(tensor.shape), Layout(tensor.dtype, tuple(order)))


@dataclass
class Seen:
    """An operation as it ran once: what `Call` is for any number of units."""

    function: Any
    leaves: list[Any]
    spec: TreeSpec | None = None
    result: tuple[int, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """All whole numbers in arguments and result, tensors as their sizes."""
        numbers = []
        for leaf in self.leaves:
            if isinstance(leaf, Sized):
                numbers += leaf.shape
            elif type(leaf) is int:
                numbers.append(leaf)
        return [*numbers, *self.result]

    def with_slopes(self, slopes: Sequence[Mapping[int, float]], sizes: Sequence[int]) -> Call:
        """The call, given by how much every number falls with each unit of a group; `sizes` of the groups now."""
        linear = iter(
            Linear(number - sum(slope * sizes[i] for i, slope in found.items()), tuple(found.items()))
            for number, found in zip(self.numbers, slopes, strict=True)
        )
        arguments = []
        for leaf in self.leaves:
            if isinstance(leaf, Sized):
                arguments.append(tuple(next(linear) for _ in leaf.shape))
            else:
                arguments.append(next(linear) if type(leaf) is int else leaf)
        layouts = tuple(leaf.layout for leaf in self.leaves if isinstance(leaf, Sized))
        return Call(self.function, tuple(arguments), layouts, self.spec, tuple(linear))


Look = Callable[[Any, tuple, dict, Any], list[Seen]]  # function, args, kwargs and result of an operation


def whole_call(function: Any, args: tuple, kwargs: dict, result: Any) -> list[Seen]:
    """All of it, so that it can be run again."""
    leaves, spec = tree_flatten((args, kwargs))
    first = next((leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)), None)
    leaves = [Sized.of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return [Seen(function, leaves, spec, () if first is None else tuple(first.shape))]


@dataclass(frozen=True)
class Traced:
    """What `trace` found.

    Attributes:
        calls: the operations, in their order.
        other: the network with about a third of the units of every group, which nothing was derived from: a check.
        kept: the kept counts of `other`.
    """

    calls: list[Call]
    other: nn.Module
    kept: list[int]


def trace(network: nn.Module, groups: Sequence[Group], inputs: Inputs, look: Look = whole_call) -> Traced:
    """Runs the network several times, where it is. Shapes suffice: the meta device.

    Groups of one unit cannot be halved, and count as fixed.

    Args:
        network: its forward in evaluation mode is what counts.
        groups: its groups.
        inputs: gives the arguments of the forward of a cut copy of it.
        look: what is remembered of an operation.

    Raises:
        ValueError: which operations run depends on the units that are there, not only their sizes.
    """
    whole = _record(network, inputs, look)
    gone = torch.tensor([float(g.size - len(_every(2, g))) for g in groups], dtype=torch.float64)
    sets = _codes(gone)
    shrunk = [_shrinkage(network, groups, inputs, look, whole, chosen) for chosen in sets]
    # Numbers that several groups share may not be told apart yet: their groups are cut one by one as well.
    for i in sorted({i for column in _distinct(shrunk) for i in _suspects(column, sets, gone) or ()}):
        sets = torch.cat([sets, torch.eye(len(groups), dtype=torch.bool)[i : i + 1]])
        shrunk.append(_shrinkage(network, groups, inputs, look, whole, sets[-1]))
    slopes = {column: _solve(column, sets, gone) for column in _distinct(shrunk)}
    columns = iter(zip(*shrunk, strict=True))
    sizes = [group.size for group in groups]
    calls = [call.with_slopes([slopes[next(columns)] for _ in call.numbers], sizes) for call in whole]
    return Traced(calls, _cut(network, groups, 3), [len(_every(3, group)) for group in groups])


def _codes(gone: Tensor) -> Tensor:
    """Which groups are cut in which run (runs, G): a few runs name any group, as no group's are all among another's."""
    groups = gone.nonzero().flatten().tolist()
    runs = next(n for n in count(1) if comb(n, n // 2) >= len(groups))
    sets = torch.zeros(runs, len(gone), dtype=torch.bool)
    for group, code in zip(groups, combinations(range(runs), runs // 2), strict=False):
        sets[list(code), group] = True
    return sets


def _shrinkage(
    network: nn.Module, groups: Sequence[Group], inputs: Inputs, look: Look, whole: Sequence[Seen], chosen: Tensor
) -> list[int]:
    """By how much every number falls when the chosen groups are halved."""
    cut = [group for group, yes in zip(groups, chosen.tolist(), strict=True) if yes]
    part = _record(_cut(network, cut), inputs, look)
    if [call.function for call in part] != [call.function for call in whole]:
        raise ValueError(
            f"the operations of {type(network).__name__} change once units of its groups are gone, so its cost cannot "
            f"be told from sizes; cut were {[group.name for group in cut]}"
        )
    return [
        m - n
        for before, after in zip(whole, part, strict=True)
        for m, n in zip(before.numbers, after.numbers, strict=True)
    ]


def _distinct(shrunk: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    """The ways in which numbers fell, run by run."""
    return set(zip(*shrunk, strict=True))


def _candidates(column: Sequence[int], sets: Tensor, gone: Tensor) -> list[int]:
    """The groups that a number may depend on: it changed in every run that they were cut in."""
    still = torch.tensor(column) == 0
    return ((gone > 0) & ~sets[still].any(0)).nonzero().flatten().tolist()


def _suspects(column: Sequence[int], sets: Tensor, gone: Tensor) -> list[int] | None:
    """Those of a number whose dependence the runs leave open; None if they settle it."""
    candidates = _candidates(column, sets, gone)
    settled = torch.linalg.matrix_rank(sets[:, candidates].double()) == len(candidates) if candidates else True
    return None if settled else candidates


def _solve(column: Sequence[int], sets: Tensor, gone: Tensor) -> dict[int, float]:
    """By how much a number falls with every unit of every group that it depends on."""
    candidates = _candidates(column, sets, gone)
    if not candidates:
        return {}
    fell = torch.tensor(column, dtype=torch.float64)[:, None]
    by_group = torch.linalg.lstsq(sets[:, candidates].double(), fell).solution[:, 0] / gone[candidates]
    exact = [float(Fraction(slope).limit_denominator(1000)) for slope in by_group.tolist()]  # of a head: 1 / heads
    return {i: slope for i, slope in zip(candidates, exact, strict=True) if slope}


def _every(step: int, group: Group) -> tuple[int, ...]:
    """Every second, third, ... unit, run by run: equally long runs stay so. (Of all, where runs are single units.)"""
    runs = group.runs if max(group.runs, default=0) > 1 else (group.size,)
    starts = [sum(runs[:i]) for i in range(len(runs))]
    return tuple(u for start, length in zip(starts, runs, strict=True) for u in range(start, start + length, step))


def _cut(network: nn.Module, groups: Sequence[Group], step: int = 2) -> nn.Module:
    return compacted(network, groups, Plan({g.name: _every(step, g) for g in groups}))


class _Recorder(TorchDispatchMode):
    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look, self.calls = look, []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls += self.look(function, args, kwargs or {}, result)
        return result


def _record(network: nn.Module, inputs: Inputs, look: Look) -> list[Seen]:
    device = next(network.parameters()).device
    given = tree_map_only(Tensor, lambda t: t.to(device), dict(inputs(network)))
    with torch.no_grad(), _Recorder(look) as recorder:
        network(**given)
    return recorder.calls
