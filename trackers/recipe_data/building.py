"""Building of objects from plain data."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from trackers.errors import CheckpointError
from trackers.recipe_data.arguments import check_arguments
from trackers.recipe_data.classes import PARTIAL, TARGET, class_of


def build(value: Any, place: str) -> Any:
    """Returns a copy of plain data in which every mapping with a `_target_` is an object.

    Args:
        value: data that `check_value` has checked.
        place: place of the data in the configuration, e.g. "tracker", for error messages.

    Raises:
        CheckpointError: see `check_arguments`.
        TrackerError: a class does not take a value.
    """
    if isinstance(value, list | tuple):
        return [build(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    parts = {key: build(part, f"{place}.{key}") for key, part in value.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in value:
        return parts
    kind = class_of(value, place)
    is_partial = value.get(PARTIAL, False)
    check_arguments(kind, parts, place, is_partial)
    if is_partial:
        return partial(kind, **parts)
    try:
        return kind(**parts)
    except TypeError as error:
        raise _unknown_key(error, parts, place) or error from error


def _unknown_key(error: TypeError, parts: Mapping[str, Any], place: str) -> CheckpointError | None:
    """Returns the error of a mapping in a recipe with a key that a constructor does not know; None for others."""
    words = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if words is None:
        return None
    for name, part in parts.items():
        if isinstance(part, Mapping) and words[1] in part:
            return CheckpointError(f"{place}.{name}.{words[1]} is not known: {error}")
    return None
