"""The runtimes that a command names."""

from typing import Any

from omegaconf import ListConfig

from evaluation.command_line.suggestions import did_you_mean
from evaluation.errors import UserError
from trackers.runtimes.choices import RUNTIMES

EXAMPLE = "e.g. runtime=[eager,onnx]"


def runtimes_of(given: Any) -> list[str]:
    """Returns the names in the key `runtime`: one name or a list; [] for None, the default of each tracker.

    Raises:
        UserError: a list is empty, or a name is not known or stands twice.
    """
    if given is None:
        return []
    names = [str(name) for name in given] if isinstance(given, ListConfig | list) else [str(given)]
    if not names:
        raise UserError(f"runtime=[] names no runtime; {EXAMPLE}")
    for name in names:
        if name not in RUNTIMES:
            hint = did_you_mean(name, list(RUNTIMES)) or EXAMPLE
            raise UserError(f"runtime={name} is not known; choose from {', '.join(RUNTIMES)}; {hint}")
        if names.count(name) > 1:
            raise UserError(f"runtime names {name} more than once; name each runtime once, {EXAMPLE}")
    return names


def one_runtime(given: Any) -> str | None:
    """Returns the only runtime of a command that takes one; None for the default of each tracker.

    Raises:
        UserError: there are several, or see `runtimes_of`.
    """
    names = runtimes_of(given)
    if len(names) > 1:
        raise UserError(f"runtime=[{','.join(names)}] names several runtimes, which action=profile alone takes")
    return names[0] if names else None
