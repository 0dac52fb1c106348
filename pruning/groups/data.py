"""Groups as plain data, which a saved network holds so that its cut is repeated without a run of the network."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from pruning.errors import PruningError, describe_value
from pruning.groups.group import Group, Slice


def to_data(group: Group) -> dict[str, Any]:
    """Returns the attributes of a group that differ from their default, as lists, numbers and texts for JSON."""
    return _differing(group) | {"slices": [_differing(s) for s in group.slices]}


def from_data(data: Any) -> Group:
    """Returns the group of the result of `to_data`.

    Raises:
        PruningError: the data does not describe a group.
    """
    entries = _checked(data, Group)
    if not isinstance(entries["slices"], list):
        raise PruningError(f"the slices of a group must be a list, not {describe_value(entries['slices'])}")
    return Group(**entries | {"slices": tuple(Slice(**_checked(s, Slice)) for s in entries["slices"])})


def _differing(item: Group | Slice) -> dict[str, Any]:
    return {f.name: getattr(item, f.name) for f in fields(item) if getattr(item, f.name) != f.default}


def _checked(data: Any, kind: type[Group] | type[Slice]) -> dict[str, Any]:
    """Returns the arguments of a `Group` or `Slice`, which check the types of most of them themselves."""
    word = kind.__name__
    if not isinstance(data, Mapping):
        raise PruningError(f"a {word} must be a mapping of its attributes, not {describe_value(data)}")
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(data) - known.keys()):
        raise PruningError(f"a {word} has no attribute {unknown[0]!r:.80}; it has {sorted(known)}")
    if missing := [f.name for f in known.values() if f.default is MISSING and f.name not in data]:
        raise PruningError(f"a {word} lacks {missing[0]!r}")
    for name, value in data.items():
        if isinstance(known[name].default, bool) and not isinstance(value, bool):
            raise PruningError(f"{name} of a {word} must be true or false, not {describe_value(value)}")
        if name in ("owner", "branch") and not isinstance(value, str):
            raise PruningError(f"{name} of a {word} must be a name, not {describe_value(value)}")
    return dict(data)
