"""Rules of operators that change shapes: views, permutations, repetitions."""

from math import prod

import numpy as np

from pruning.discovery.flow import Flow, Labels, integers
from pruning.discovery.recording import Operator
from pruning.discovery.reshapes import reshaped

RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten", "flatten", "view_as")
PERMUTATIONS = ("permute", "transpose", "t")


def view(flow: Flow, operator: Operator) -> None:
    """Merges and splits dimensions."""
    value, result = operator.values[0], operator.results[0]
    _unite_with_parts(flow, operator)
    labels = reshaped(flow, operator, flow.of(value), value.shape, result.shape)
    for dim, size in operator.read_sizes.items():
        if dim < len(labels) and size == result.shape[dim]:  # `B, N, C = x.shape`, and later `reshape(B, N, C)`
            flow.unite_counts(labels[dim], flow.of(size.tensor)[size.dim], operator)
    flow.set(result, labels)
    for dim, part in enumerate(labels):
        if part is not None:
            flow.require(operator, result.shape[dim], part, result.shape[:dim].count(result.shape[dim]))


def _unite_with_parts(flow: Flow, operator: Operator) -> None:
    """Unites a last dimension, e.g. of queries, with that which `reshape(B, N, heads, C // heads)` takes C from."""
    value, shape = operator.values[0], operator.results[0].shape
    for dim, size in operator.read_sizes.items():
        is_part = 0 < dim < len(shape) and shape[dim] != size == shape[dim] * shape[dim - 1]
        if not is_part or not value.shape or value.shape[-1] % size:
            continue
        if prod(shape[dim - 1 :]) > value.shape[-1]:
            continue  # a part of another dimension, e.g. of the height in `view(B, H // 7, 7, W // 7, 7, C)`
        labels, other = flow.of(value)[-1], flow.of(size.tensor)[size.dim]
        for block in [None] if labels is None else labels.reshape(-1, size):
            flow.unite(block, other, operator)


def as_strided(flow: Flow, operator: Operator) -> None:
    """Gives a tensor another layout. Only dimensions of one entry may be added or dropped."""
    value, result = operator.values[0], operator.results[0]
    if [n for n in value.shape if n > 1] == [n for n in result.shape if n > 1]:
        squeeze(flow, operator)
    else:
        flow.freeze_all(operator)


def permute(flow: Flow, operator: Operator) -> None:
    """Changes the order of dimensions."""
    value, result, rank = operator.values[0], operator.results[0], len(operator.values[0].shape)
    order = list(range(rank))
    if operator.name == "t":
        order.reverse()
    elif operator.name == "permute":
        order = [d % rank for d in integers(operator, "dims")]
    else:
        a, b = (integers(operator, name)[0] % rank for name in ("dim0", "dim1"))
        order[a], order[b] = order[b], order[a]
    labels = flow.of(value)
    flow.set(result, [labels[d] for d in order])


def expand(flow: Flow, operator: Operator) -> None:
    """Repeats dimensions of one entry, and adds dimensions in front."""
    value, result = operator.values[0], operator.results[0]
    labels = flow.of(value)
    front = len(result.shape) - len(value.shape)
    # Repeated entries follow the size of another tensor, as in `x / x.norm().expand_as(x)`, and take its units.
    kept = [
        d if value.shape[i] == n else flow.fresh(n)
        for i, (d, n) in enumerate(zip(labels, result.shape[front:], strict=True))
    ]
    flow.set(result, [*map(flow.fresh, result.shape[:front]), *kept])


def repeat(flow: Flow, operator: Operator) -> None:
    """Repeats a tensor along its dimensions."""
    value, result = operator.values[0], operator.results[0]
    front = len(result.shape) - len(value.shape)
    labels: Labels = [None] * front
    for i, part in enumerate(flow.of(value)):
        labels.append(None if part is None else np.tile(part, result.shape[i + front] // value.shape[i]))
    flow.set(result, labels)


def squeeze(flow: Flow, operator: Operator) -> None:
    """Adds or drops dimensions of one entry."""
    value, result = operator.values[0], operator.results[0]
    flow.set(result, reshaped(flow, operator, flow.of(value), value.shape, result.shape))


def pixel_shuffle(flow: Flow, operator: Operator) -> None:
    """Moves blocks of neighbouring channels into the plane, or back."""
    value, result = operator.values[0], operator.results[0]
    labels, before, after = list(flow.of(value)), value.shape[-3], result.shape[-3]
    part = labels[-3]
    if part is not None and after < before:
        labels[-3] = flow.unite_rows(part.reshape(after, -1), operator)
    elif part is not None:
        labels[-3] = np.repeat(part, after // before)
    flow.set(result, labels)


SHAPES = (
    dict.fromkeys(RESHAPES, view)
    | dict.fromkeys(PERMUTATIONS, permute)
    | dict.fromkeys(("squeeze", "unsqueeze"), squeeze)
    | dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), pixel_shuffle)
    | {"as_strided": as_strided, "expand": expand, "repeat": repeat}
)
