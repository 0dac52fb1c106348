"""Entry point of `python -m pruning`."""

import sys
from collections.abc import Sequence

from pruning.command_line.parser import parse
from pruning.command_line.spelling import spell_options
from pruning.errors import PruningError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 2 after an error that the user can correct.

    Args:
        arguments: words behind `python -m pruning`; by default those of the process.
    """
    options = parse(arguments)
    from pruning.command_line.command import prune  # imports torch, which `--help` does not need

    try:
        prune(options)
    except PruningError as error:
        print(f"error: {spell_options(str(error), vars(options))}", file=sys.stderr)
        return 2
    return 0
