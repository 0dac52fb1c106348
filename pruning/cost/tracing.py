"""Tracing: the operations that a network runs, with every size as a function of the kept counts.

The network is run once uncut, and a few times with about half of the units of some groups. If a size in an operation
falls in exactly the runs in which a group was cut, the size depends on that group, in proportion to the removed units.
So costs that follow from sizes (MACs, times) include every coupling between groups without declarations.
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

from pruning.arguments import InputFunction
from pruning.errors import PruningError
from pruning.groups import Group
from pruning.plan import Plan
from pruning.surgery import compacted
from pruning.surgery.multihead_attention import allow_any_width, leave_nested_tensors


@dataclass(frozen=True)
class AffineSize:
    """Size as an affine function of kept counts: `fixed` plus slope times count for every (group, slope)."""

    fixed: float
    slopes: tuple[tuple[int, float], ...] = ()

    def __call__(self, kept: Sequence[float]) -> float:
        """Returns the size when `kept[i]` units of group i are kept."""
        return self.fixed + sum(slope * kept[group] for group, slope in self.slopes)


AffineShape = tuple[AffineSize, ...]


class Layout(NamedTuple):
    """Data type of a tensor, and its dims from the outermost to the innermost in memory."""

    dtype: torch.dtype
    order: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """Operation of a network for any kept counts.

    Attributes:
        function: torch's operator.
        arguments: flattened arguments: an `AffineShape` for a tensor, an `AffineSize` for an integer, otherwise the
            value itself.
        layouts: layouts of the tensors among the arguments, in order.
        spec: structure of the arguments, which turns the flattened ones into (args, kwargs).
        result: shape of the (first) result.
    """

    function: Any
    arguments: tuple[Any, ...]
    layouts: tuple[Layout | None, ...]
    spec: TreeSpec | None
    result: AffineShape

    @property
    def tensors(self) -> list[AffineShape]:
        """Shapes of the tensors among the arguments."""
        return [a for a in self.arguments if isinstance(a, tuple)]


class TensorRecord(NamedTuple):
    """Shape and layout of a tensor that an operation received."""

    shape: tuple[int, ...]
    layout: Layout | None = None

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> "TensorRecord":
        """Returns the record of a tensor."""
        order = sorted(range(tensor.dim()), key=lambda d: -tensor.stride(d))
        return cls(tuple(tensor.shape), Layout(tensor.dtype, tuple(order)))


@dataclass
class OperationRecord:
    """Operation of one run, with fixed sizes.

    Attributes:
        function: torch's operator.
        leaves: flattened arguments, with a `TensorRecord` for every tensor.
        spec: structure of the arguments.
        result: shape of the (first) result.
    """

    function: Any
    leaves: list[Any]
    spec: TreeSpec | None = None
    result: tuple[int, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """All integers in arguments and result, with the shapes of tensors."""
        sizes = []
        for leaf in self.leaves:
            if isinstance(leaf, TensorRecord):
                sizes += leaf.shape
            elif type(leaf) is int:
                sizes.append(leaf)
        return [*sizes, *self.result]

    def to_operation(self, slopes: Sequence[Mapping[int, float]], group_sizes: Sequence[int]) -> Operation:
        """Returns the operation for any kept counts.

        Args:
            slopes: for each of `sizes`, its slope by group index.
            group_sizes: number of units of each group in this record.
        """
        affine = iter(
            AffineSize(size - sum(slope * group_sizes[i] for i, slope in by_group.items()), tuple(by_group.items()))
            for size, by_group in zip(self.sizes, slopes, strict=True)
        )
        arguments: list[Any] = []
        for leaf in self.leaves:
            if isinstance(leaf, TensorRecord):
                arguments.append(tuple(next(affine) for _ in leaf.shape))
            else:
                arguments.append(next(affine) if type(leaf) is int else leaf)
        layouts = tuple(leaf.layout for leaf in self.leaves if isinstance(leaf, TensorRecord))
        return Operation(self.function, tuple(arguments), layouts, self.spec, tuple(affine))


# Returns the records of an operation (none if it does not count), given its operator, args, kwargs and result.
Recorder = Callable[[Any, tuple, dict, Any], list[OperationRecord]]


def record_operation(function: Any, args: tuple, kwargs: dict, result: Any) -> list[OperationRecord]:
    """Records an operation with all its arguments, so that it can be run again."""
    leaves, spec = tree_flatten((args, kwargs))
    first = next((leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)), None)
    leaves = [TensorRecord.from_tensor(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return [OperationRecord(function, leaves, spec, () if first is None else tuple(first.shape))]


@dataclass(frozen=True)
class Trace:
    """Result of `trace`.

    Attributes:
        operations: the operations in the order in which they run.
        control: the network with about a third of the units of every group. No size was derived from it, so a cost can
            be compared with it.
        control_counts: the kept counts of `control`.
    """

    operations: list[Operation]
    control: nn.Module
    control_counts: list[int]


def trace(
    network: nn.Module, groups: Sequence[Group], inputs: InputFunction, recorder: Recorder = record_operation
) -> Trace:
    """Runs the network several times and returns its operations with sizes as functions of the kept counts.

    The network runs on its own device. Only shapes are needed, so the meta device suffices. A group of one unit cannot
    be halved; sizes count as independent of it.

    Args:
        network: the network, in evaluation mode.
        groups: the groups of the network.
        inputs: returns the arguments of the forward.
        recorder: records an operation.

    Raises:
        PruningError: the choice of operations depends on the kept units, not only their sizes.
    """
    dense = _record(_thinned(network, []), inputs, recorder)
    removed = torch.tensor([float(g.size - len(_every_nth_unit(2, g))) for g in groups], dtype=torch.float64)
    cut_sets = separating_sets(removed)
    drops = [_size_drops(network, groups, inputs, recorder, dense, cut) for cut in cut_sets]
    # If a size depends on several groups, the runs may leave several solutions. Then these groups are cut one by one.
    for i in sorted({i for drop in _distinct(drops) for i in _ambiguous_groups(drop, cut_sets, removed)}):
        cut_sets = torch.cat([cut_sets, torch.eye(len(groups), dtype=torch.bool)[i : i + 1]])
        drops.append(_size_drops(network, groups, inputs, recorder, dense, cut_sets[-1]))
    slopes = {drop: _solve_slopes(drop, cut_sets, removed) for drop in _distinct(drops)}
    drop_of_size = iter(zip(*drops, strict=True))
    group_sizes = [group.size for group in groups]
    operations = [r.to_operation([slopes[next(drop_of_size)] for _ in r.sizes], group_sizes) for r in dense]
    return Trace(operations, _thinned(network, groups, 3), [len(_every_nth_unit(3, group)) for group in groups])


def separating_sets(removed: Tensor) -> Tensor:
    """Returns the mask (runs, groups) of the groups that are cut in each run.

    Every group is cut in a different half of the runs, so the runs in which a size falls identify its group. For every
    two groups there is a run in which only the first of them is cut.

    Args:
        removed: number of units that a cut removes from each group, (groups,). A group without such units is never cut.
    """
    groups = removed.nonzero().flatten().tolist()
    runs = next(n for n in count(1) if comb(n, n // 2) >= len(groups))
    cut_sets = torch.zeros(runs, len(removed), dtype=torch.bool)
    for group, runs_of_group in zip(groups, combinations(range(runs), runs // 2), strict=False):
        cut_sets[list(runs_of_group), group] = True
    return cut_sets


def _size_drops(
    network: nn.Module,
    groups: Sequence[Group],
    inputs: InputFunction,
    recorder: Recorder,
    dense: Sequence[OperationRecord],
    cut: Tensor,
) -> list[int]:
    """Returns the decrease of every size when the groups with `cut` (groups,) are halved."""
    halved = [group for group, yes in zip(groups, cut.tolist(), strict=True) if yes]
    part = _record(_thinned(network, halved), inputs, recorder)
    if [record.function for record in part] != [record.function for record in dense]:
        raise PruningError(
            f"the operations of {type(network).__name__} change once units of its groups are removed, so its cost "
            f"cannot be computed from sizes; the cut groups were {[group.name for group in halved]}"
        )
    return [
        m - n for before, after in zip(dense, part, strict=True) for m, n in zip(before.sizes, after.sizes, strict=True)
    ]


def _distinct(drops: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    """Returns the distinct decreases of all sizes; each is a tuple with one entry per run."""
    return set(zip(*drops, strict=True))


def _candidate_groups(drop: Sequence[int], cut_sets: Tensor, removed: Tensor) -> list[int]:
    """Returns the groups on which a size may depend: the size fell in every run in which such a group was cut."""
    unchanged = torch.tensor(drop) == 0
    return ((removed > 0) & ~cut_sets[unchanged].any(0)).nonzero().flatten().tolist()


def _ambiguous_groups(drop: Sequence[int], cut_sets: Tensor, removed: Tensor) -> list[int]:
    """Returns the groups among which the runs do not identify the cause of a decrease; [] if slopes are determined."""
    candidates = _candidate_groups(drop, cut_sets, removed)
    determined = not candidates or torch.linalg.matrix_rank(cut_sets[:, candidates].double()) == len(candidates)
    return [] if determined else candidates


def _solve_slopes(drop: Sequence[int], cut_sets: Tensor, removed: Tensor) -> dict[int, float]:
    """Returns the decrease of a size per removed unit, for each group on which the size depends."""
    candidates = _candidate_groups(drop, cut_sets, removed)
    if not candidates:
        return {}
    fell = torch.tensor(drop, dtype=torch.float64)[:, None]
    slopes = torch.linalg.lstsq(cut_sets[:, candidates].double(), fell).solution[:, 0] / removed[candidates]
    # A slope may be a fraction: the width of a head falls by 1 / heads with each removed unit.
    exact = [float(Fraction(slope).limit_denominator(1000)) for slope in slopes.tolist()]
    return {i: slope for i, slope in zip(candidates, exact, strict=True) if slope}


def _every_nth_unit(n: int, group: Group) -> tuple[int, ...]:
    """Returns every n-th unit of each run, so that runs of equal length stay equal.

    Runs of single units are treated as one run.
    """
    runs = group.runs if max(group.runs, default=0) > 1 else (group.size,)
    starts = [sum(runs[:i]) for i in range(len(runs))]
    return tuple(u for start, length in zip(starts, runs, strict=True) for u in range(start, start + length, n))


def _thinned(network: nn.Module, groups: Sequence[Group], n: int = 2) -> nn.Module:
    """Returns a copy of the network with every n-th unit of `groups`.

    All attentions of torch become those that a cut leaves, so that uncut ones run the same operations.
    """
    thinned = compacted(network, groups, Plan({g.name: _every_nth_unit(n, g) for g in groups}))
    for attention in (m for m in thinned.modules() if type(m) is nn.MultiheadAttention):
        allow_any_width(attention)
    leave_nested_tensors(thinned)
    return thinned


class _RecordingMode(TorchDispatchMode):
    """Records the operations that run inside the `with` block."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.records: list[OperationRecord] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.records += self.recorder(func, args, kwargs or {}, result)
        return result


def _record(network: nn.Module, inputs: InputFunction, recorder: Recorder) -> list[OperationRecord]:
    """Runs the network once and returns the records of its operations."""
    device = next(network.parameters()).device
    arguments = tree_map_only(Tensor, lambda t: t.to(device), dict(inputs(network)))
    with torch.no_grad(), _RecordingMode(recorder) as mode:
        network(**arguments)
    return mode.records
