"""Settings in messages of the package, spelled as options of the command line."""

import re
import shlex
from collections.abc import Iterable


def spell_options(message: str, names: Iterable[str]) -> str:
    """Returns a message with `--round-to 8` in place of `pruning.round_to=8` or `round_to=8`.

    Args:
        message: message of a `PruningError`. A list such as `protect=['a', 'b']` becomes `--protect a --protect b`.
        names: names of the options, with underscores.
    """
    known = "|".join(names)
    return re.sub(rf"\b(?:pruning\.({known})\b|({known})(?==))(=\[[^\]]*\]|=)?", _spell, message)


def _spell(match: re.Match[str]) -> str:
    """Returns the option of one setting, with its values if they are a list."""
    option, values = "--" + (match[1] or match[2]).replace("_", "-"), match[3] or ""
    if values in ("", "="):
        return option + " " * len(values)
    return " ".join(f"{option} {shlex.quote(value)}" for value in re.findall(r"'([^']*)'", values))
