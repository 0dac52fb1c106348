"""The error for wrong input of this package, and how messages name a wrong value or another error."""

from typing import Any


class PruningError(ValueError):
    """Declarations, plans or settings of the pruning that the user can correct.

    The message names the value, the place and a call that works.
    """


def describe_value(value: Any) -> str:
    """Returns a few words for a value of a wrong type: a tensor or a network would print pages."""
    if isinstance(value, str | int | float | None):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"a tensor of shape {tuple(shape)}"


def first_line(error: Exception) -> str:
    """Returns the type and the first line of an error; those of torch may have many."""
    return f"{type(error).__name__}: " + str(error).strip().partition("\n")[0].rstrip(".")
