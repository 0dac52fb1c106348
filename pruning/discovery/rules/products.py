"""Rules of matrix products and convolutions."""

from typing import Any

import numpy as np

from pruning.discovery.flow import Flow, Labels
from pruning.discovery.recording import Operator, Value


def product(flow: Flow, operator: Operator) -> None:
    """Multiplies matrices: unites the dimensions that are summed over, and those of a batch."""
    result, values = operator.results[0], operator.values
    first, second = (flow.of(v) for v in values[-2:])
    *batch_a, rows, inner = first if len(first) > 1 else [None, *first]
    *batch_b, inner_b, columns = second if len(second) > 1 else [*second, None]
    if values[-2] in flow.inputs:
        flow.units.freeze(inner_b, "")
    united = flow.unite(inner, inner_b, operator)
    if united is not None and not {*values[-2:]} & flow.views.keys():
        flow.products.append((operator, united))
    labels: Labels = [flow.unite(a, b, operator) for a, b in zip(batch_a, batch_b, strict=True)]
    labels += [rows] * (len(first) > 1) + [columns] * (len(second) > 1)
    if operator.name in ("addmm", "baddbmm", "addmv", "addbmm"):
        added = values[0]
        skip = len(result.shape) - len(added.shape)
        for dim, part in enumerate(flow.of(added)):
            if added.shape[dim] == result.shape[dim + skip]:
                labels[dim + skip] = flow.unite(labels[dim + skip], part, operator)
    flow.set(result, labels)


def convolution(flow: Flow, operator: Operator) -> None:
    """Convolves: the input's channels are summed over, in as many groups as the convolution has."""
    x, weight, bias = operator.arguments["input"], operator.arguments["weight"], operator.arguments.get("bias")
    result, groups = operator.results[0], int(operator.arguments.get("groups", 1))
    channel = len(result.shape) - len(weight.shape) + 1  # a picture without a batch has its channels first
    if operator.arguments.get("transposed"):
        reads, writes = flow.of(weight)[:2]
    else:
        writes, reads = flow.of(weight)[:2]
    for d in range(2, len(weight.shape)):
        flow.units.freeze(flow.of(weight)[d], "")
    entering = flow.of(x)[channel]
    for d in range(channel + 1, len(x.shape)):
        flow.freeze_mixed(operator, flow.of(x)[d])
    leaving = writes
    if x in flow.inputs:
        flow.units.freeze(reads, "")
    if groups == 1:
        flow.unite(entering, reads, operator)
    else:
        leaving = _grouped(flow, operator, groups, weight, entering)
    if leaving is not None and isinstance(bias, Value):
        leaving = flow.unite(leaving, flow.of(bias)[0], operator)
    labels: Labels = [None] * len(result.shape)
    if channel:
        labels[0] = flow.of(x)[0]
    labels[channel] = leaving
    flow.set(result, labels)


def _grouped(
    flow: Flow, operator: Operator, groups: int, weight: Any, entering: np.ndarray | None
) -> np.ndarray | None:
    """Returns the labels of the output channels of a grouped convolution.

    If there are more groups than channels in a group, a whole group is a unit, with its input and output channels.
    Otherwise a unit has the same channel of every group.
    """
    transposed = bool(operator.arguments.get("transposed"))
    first, second = flow.of(weight)[:2]
    per_group = weight.shape[0] // groups
    inputs = weight.shape[0] if transposed else weight.shape[1] * groups
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    if first is None or entering is None:
        for part in (first, second, entering):
            flow.freeze_mixed(operator, part)
        return None
    # A kernel that is an activation has as many groups as that activation has channels, whatever their number.
    counted = weight not in flow.views or any(int(s) == groups for s in operator.sizes)
    if counted and groups >= max(inputs, outputs) / groups:
        blocks = flow.unite_rows(first.reshape(groups, per_group), operator)
        flow.units.freeze(second, "")  # the entries within a group stay
        flow.units.unite(np.repeat(blocks, inputs // groups), entering, str(operator))
        flow.require(operator, groups, blocks)
        return np.repeat(blocks, outputs // groups)
    within = flow.unite_rows(entering.reshape(groups, inputs // groups).T, operator)
    if transposed:
        flow.units.unite(first, entering, str(operator))
        return None if second is None else np.tile(second, groups)
    if second is not None:
        flow.units.unite(within, second, str(operator))
    else:
        flow.freeze_mixed(operator, within)
    flow.unite_rows(first.reshape(groups, per_group).T, operator)
    return first


PRODUCTS = dict.fromkeys(
    ("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "matmul", "linear", "addmv"), product
) | dict.fromkeys(("convolution", "_convolution"), convolution)
