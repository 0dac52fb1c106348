"""Rules of operators that take tensors apart and put them together: slices, splits, concatenations, padding."""

from math import gcd

import numpy as np

from pruning.discovery.flow import Flow, integers
from pruning.discovery.recording import Operator
from pruning.discovery.units import FIXED

SPLITS = ("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk")


def select(flow: Flow, operator: Operator) -> None:
    """Takes one entry of a dimension, or all entries one by one."""
    value = operator.values[0]
    labels, dim = list(flow.of(value)), (integers(operator, "dim") or [0])[0]
    flow.freeze_mixed(operator, labels.pop(dim))
    for result in operator.results:
        flow.set(result, labels)


def slice_(flow: Flow, operator: Operator) -> None:
    """Takes a range of positions of a dimension."""
    value, result = operator.values[0], operator.results[0]
    labels, dim = list(flow.of(value)), (integers(operator, "dim") or [0])[0]
    part, size = labels[dim], value.shape[dim]
    if part is not None:
        start, end = ((integers(operator, name) or [default])[0] for name, default in (("start", 0), ("end", size)))
        start, end = (min(max(n + size * (n < 0), 0), size) for n in (start, end))
        step = (integers(operator, "step") or [1])[0]
        known = True
        for bound in {start, end} - {0, size}:
            known = flow.require(operator, bound, part[:bound]) and known
        if not known:
            _unite_equal_parts(flow, operator, part, start, end)
        if step != 1:
            flow.freeze_mixed(operator, part)
        labels[dim] = part[start:end:step]
    flow.set(result, labels)


def _unite_equal_parts(flow: Flow, operator: Operator, part: np.ndarray, start: int, end: int) -> None:
    """Unites the equal parts of a dimension of which a module takes some by a computed size, e.g. a half."""
    length = gcd(start, end, len(part))
    if length < 2:
        flow.freeze_mixed(operator, part)
    else:
        flow.unite_rows(part.reshape(-1, length).T, operator)


def split(flow: Flow, operator: Operator) -> None:
    """Takes consecutive ranges of positions of a dimension."""
    value = operator.values[0]
    dim = (integers(operator, "dim") or [0])[0] % len(value.shape)
    part, start = flow.of(value)[dim], 0
    sizes = [result.shape[dim] for result in operator.results]
    if part is not None:
        known = not operator.equal_parts and _require_sizes(flow, operator, part, sizes)
        if not known and len(set(sizes)) == 1:
            flow.unite_rows(part.reshape(-1, sizes[0]).T, operator)
        elif not known:
            flow.freeze_mixed(operator, part)
    for result, size in zip(operator.results, sizes, strict=True):
        labels = list(flow.of(value))
        labels[dim] = None if part is None else part[start : start + size]
        flow.set(result, labels)
        start += size


def _require_sizes(flow: Flow, operator: Operator, part: np.ndarray, sizes: list[int]) -> bool:
    """Notes the attributes that hold the sizes of the parts, if each of the parts has one of its own."""
    tracked = [s for s in operator.sizes if int(s) in sizes]
    if operator.name == "split" or len({s.sources for s in tracked}) < len(sizes):
        if len(set(sizes)) == 1 and tracked:  # one attribute for all parts
            flow.require(operator, sizes[0], part[: sizes[0]])
        return False
    start = 0
    for i, size in enumerate(sizes):
        flow.require(operator, size, part[start : start + size], sizes[:i].count(size))
        start += size
    return True


def glu(flow: Flow, operator: Operator) -> None:
    """Multiplies the first half of a dimension by the sigmoid of the second half."""
    value = operator.values[0]
    labels, dim = list(flow.of(value)), (integers(operator, "dim") or [-1])[0]
    part = labels[dim]
    if part is not None:
        labels[dim] = flow.unite_rows(part.reshape(2, -1).T, operator)
    flow.set(operator.results[0], labels)


def cat(flow: Flow, operator: Operator) -> None:
    """Joins tensors along a dimension."""
    result, values = operator.results[0], [v for v in operator.values if v.shape != (0,)]
    dim = (integers(operator, "dim") or [0])[0] % len(result.shape)
    labels = list(flow.of(values[0]))
    for value in values[1:]:
        for d, part in enumerate(flow.of(value)):
            if d != dim:
                labels[d] = flow.unite(labels[d], part, operator)
    parts = [(flow.of(value)[dim], value.shape[dim]) for value in values]
    joined = [np.full(n, FIXED) if part is None else part for part, n in parts]
    labels[dim] = np.concatenate(joined)
    flow.set(result, labels)


def stack(flow: Flow, operator: Operator) -> None:
    """Joins tensors along a new dimension."""
    result, values = operator.results[0], operator.values
    dim = (integers(operator, "dim") or [0])[0] % len(result.shape)
    labels = list(flow.of(values[0]))
    for value in values[1:]:
        labels = [flow.unite(a, b, operator) for a, b in zip(labels, flow.of(value), strict=True)]
    labels.insert(dim, None)
    flow.set(result, labels)


def pad(flow: Flow, operator: Operator) -> None:
    """Adds entries at the ends of the last dimensions."""
    value, result = operator.values[0], operator.results[0]
    widths = integers(operator, "pad") or integers(operator, "padding")
    labels = list(flow.of(value))
    for i in range(len(widths) // 2):
        dim, (before, after) = len(labels) - 1 - i, widths[2 * i : 2 * i + 2]
        part = labels[dim]
        if part is not None and (before or after):
            if before < 0 or after < 0:
                flow.freeze_mixed(operator, part)
                labels[dim] = None
            else:
                labels[dim] = np.concatenate([np.full(before, FIXED), part, np.full(after, FIXED)])
    flow.set(result, labels)


def roll(flow: Flow, operator: Operator) -> None:
    """Moves entries along dimensions, in a circle."""
    labels = list(flow.of(operator.values[0]))
    for dim in integers(operator, "dims") or range(len(labels)):
        flow.freeze_mixed(operator, labels[dim])
    flow.set(operator.results[0], labels)


PARTS = (
    dict.fromkeys(("select", "unbind"), select)
    | dict.fromkeys(SPLITS, split)
    | dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "reflection_pad1d", "pad"), pad)
    | {"slice": slice_, "cat": cat, "stack": stack, "roll": roll, "glu": glu}
)
