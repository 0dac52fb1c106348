"""Attributes of modules that count units, such as the number of heads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from pruning.discovery.flow import Flow
from pruning.discovery.tracked_attributes import TrackedInt
from pruning.groups.attributes import CountAttribute


def unite_counted(network: nn.Module, flow: Flow) -> None:
    """Unites the units that one attribute counts in several places.

    Args:
        network: the network.
        flow: the flow. Attributes that follow a cut by themselves are dropped from its requirements.
    """
    flow.requirements = [r for r in flow.requirements if not any(_follows_cut(network, s) for s in r.size.sources)]
    first: dict[tuple[str, ...], np.ndarray] = {}
    for need in flow.requirements:
        if not need.size.exact:
            continue
        known = first.setdefault(need.size.sources, need.labels)
        if known is not need.labels:
            reason = f"the attribute {need.size.sources[0]} counts several kinds of units"
            if len(known) == len(need.labels):
                flow.units.unite(known, need.labels, reason)
            else:
                flow.units.freeze(known, reason)
                flow.units.freeze(need.labels, reason)


def attributes_per_unit(
    network: nn.Module, counts: Sequence[tuple[TrackedInt, int]]
) -> tuple[tuple[tuple[str, int], ...], str]:
    """Returns the attributes that count the units of a group, and why they cannot, "" if they can.

    Args:
        network: the network.
        counts: sizes that one of the units enters, with the number of its entries.

    Returns:
        See `Group.attributes`; and the problem.
    """
    result: dict[str, int] = {}
    for size, count in sorted(counts, key=lambda c: not c[0].exact):
        if not size.exact and any(source in result for source in size.sources):
            continue  # computed from an attribute that is already known; the trial cut shows whether it fits
        if len(set(size.sources)) > 1:
            return (), f"a size of {int(size)} is computed from the attributes {sorted(set(size.sources))}"
        path = size.sources[0]
        value = CountAttribute(network, path).value
        per_unit, rest = divmod(count * value, int(size))
        if rest and not size.exact:
            continue  # an equal number by chance
        if rest or result.get(path, per_unit) != per_unit:
            return (), f"the attribute {path}={value} does not count these units evenly"
        result[path] = per_unit
    return tuple(result.items()), ""


def _follows_cut(network: nn.Module, path: str) -> bool:
    """Returns whether surgery sets an attribute from the tensors of its layer, or the module's method `keep` does."""
    *parts, name = path.split(".")
    owner: Any = network
    for part in parts:
        if isinstance(owner, list | tuple):
            return False
        owner = getattr(owner, part)
        if isinstance(owner, nn.LayerNorm | nn.RMSNorm) or callable(getattr(owner, "keep", None)):
            return True
    return isinstance(owner, nn.MultiheadAttention) and name != "num_heads"
