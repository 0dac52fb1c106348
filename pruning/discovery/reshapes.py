"""Flow of units through reshapes, which merge dimensions and split them."""

from collections.abc import Sequence
from math import prod

import numpy as np

from pruning.discovery.flow import Flow, Labels, Split
from pruning.discovery.recording import Operator
from pruning.discovery.units import FIXED, Units


def reshaped(flow: Flow, operator: Operator, labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """Returns the labels of a tensor after a reshape from sizes `before` to sizes `after`."""
    result: Labels = [None] * len(after)
    if 0 in before:
        return result  # an attention without heads, in a network that was cut before
    left, right = ([d for d, n in enumerate(sizes) if n != 1] for sizes in (before, after))
    while left and right:
        ins, outs = [left.pop(0)], [right.pop(0)]
        while (taken := prod(before[d] for d in ins)) != (given := prod(after[d] for d in outs)):
            if taken < given:
                ins.append(left.pop(0))
            else:
                outs.append(right.pop(0))
        flat = _merged(flow, operator, [labels[d] for d in ins], [before[d] for d in ins])
        if flat is None:
            continue
        if len(outs) == 1:
            result[outs[0]] = flat
        else:
            which, part = _split(flow, operator, flat, [after[d] for d in outs])
            result[outs[which]] = part
    return result


def _merged(flow: Flow, operator: Operator, parts: Labels, sizes: Sequence[int]) -> np.ndarray | None:
    """Returns the labels of several dimensions that become one; only one of them keeps its units."""
    known = [i for i, part in enumerate(parts) if part is not None]
    if not known:
        return None
    live = [i for i in known if not _all_frozen(flow, parts[i])] or known
    chosen = max(live, key=lambda i: (flow.in_tensors(parts[i]), sizes[i]))
    for i in known:
        if i != chosen:
            flow.freeze_mixed(operator, parts[i])
    part = parts[chosen]
    assert part is not None
    inner, outer = prod(sizes[chosen + 1 :]), prod(sizes[:chosen])
    return part if inner == outer == 1 else np.tile(np.repeat(part, inner), outer)


def _all_frozen(flow: Flow, labels: np.ndarray | None) -> bool:
    if labels is None:
        return True
    return all(u == FIXED or u in flow.units.reasons for u in np.unique(flow.units.find(labels)).tolist())


def _split(flow: Flow, operator: Operator, flat: np.ndarray, sizes: Sequence[int]) -> tuple[int, np.ndarray]:
    """Splits a dimension: the index along one of the new dimensions becomes the unit.

    Returns:
        The number of this dimension, and its labels.
    """
    grid = flow.units.find(flat).reshape(*sizes)
    counts = [_count_units(np.moveaxis(grid, d, 0).reshape(sizes[d], -1)) for d in range(len(sizes))]
    order = sorted(range(len(sizes)), key=lambda d: (-counts[d], -sizes[d]))
    chosen = flow.unit_dims.get(flow.number, order[0])
    labels = flow.unite_rows(np.moveaxis(grid, chosen, 0).reshape(sizes[chosen], -1), operator)
    flow.splits[flow.number] = Split([d for d in order if counts[d] > 1], chosen, labels)
    return chosen, labels


def _count_units(rows: np.ndarray) -> int:
    """Returns how many units remain if all labels of a row are united; rows with a FIXED label count as none."""
    labels, numbers = np.unique(rows, return_inverse=True)
    if len(labels) == rows.size and labels[0] != FIXED:
        return len(rows)
    pairs = np.unique(np.stack([np.arange(len(rows)).repeat(rows.shape[1]), numbers.reshape(-1)]), axis=1)
    parts = Units()
    row, label = parts.fresh(len(rows)), parts.fresh(len(labels))
    parts.unite(row[pairs[0]], label[pairs[1]], "")
    fixed = {int(u) for u in parts.find(label[labels == FIXED]).tolist()}
    return len(set(parts.find(row).tolist()) - fixed)
