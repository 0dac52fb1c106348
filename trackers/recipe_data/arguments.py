"""Whether the values in a recipe fit the arguments of a class, as its constructor annotates them."""

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from trackers.errors import CheckpointError

PLAIN = (int, str, bool, NoneType)


def check_arguments(kind: type, given: Mapping[str, Any], place: str, is_partial: bool) -> None:
    """Checks the names and the types of the arguments of a class.

    Args:
        kind: the class.
        given: values by argument.
        place: place of the class in the configuration, e.g. "tracker.search", for error messages.
        is_partial: whether arguments without a default may be missing, because a later call gives them.

    Raises:
        CheckpointError: an argument is unknown, is missing, or has another type than its annotation says. Annotations
            of other types than plain values, classes of `trackers`, and lists and mappings of these are not checked.
    """
    signature = inspect.signature(kind)
    try:
        (signature.bind_partial if is_partial else signature.bind)(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise CheckpointError(f"{place}: {kind.__name__} {error}; its arguments are {known}") from None
    for name, value in given.items():
        hint = signature.parameters[name].annotation if name in signature.parameters else Any
        if not _fits(value, hint):
            words = hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint)
            raise CheckpointError(f"{place}.{name}={reprlib.repr(value)} must be {words}")


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if hint is None or hint in PLAIN:
        kind = NoneType if hint is None else hint
        return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is Callable:
        return callable(value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(part, parts[1]) for part in value.values())
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(part, parts[0]) for part in value)
    if isinstance(hint, type) and hint.__module__.startswith("trackers.") and not getattr(hint, "_is_protocol", False):
        return isinstance(value, hint)
    return True
