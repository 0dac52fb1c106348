"""Reasons for which units are left whole, in few lines, and the error for a network of which nothing can be cut."""

import re
from collections import defaultdict
from collections.abc import Sequence
from textwrap import shorten

from pruning.discovery.finding import LeftWhole
from pruning.discovery.flow import RETURNED
from pruning.errors import PruningError


def no_groups_error(network: str, whole: Sequence[LeftWhole]) -> PruningError:
    """Returns the error for a network in which no group was found, with the reasons and what its user can do.

    Args:
        network: name of the network.
        whole: what is left whole.
    """
    lines = sorted(lines_of_whole(whole), key=lambda line: line.startswith(RETURNED))
    reasons = "; ".join(lines[:3]) or "its forward uses no parameters"
    return PruningError(
        f"no group of units of {network} can be cut: {reasons}. Replace what stops the search, or declare groups by "
        "hand: pruner.attach(network, [Group(...)], inputs); docs/declaring-groups.md has an example"
    )


def lines_of_whole(whole: Sequence[LeftWhole]) -> list[str]:
    """Returns one line for each reason for which units are left whole, with their number and an example.

    Reasons that differ only in shapes and in the numbers in names of modules are equal.
    """
    found: dict[str, list[LeftWhole]] = defaultdict(list)
    for left in whole:
        found[_operator(left.reason)].append(left)
    lines = []
    for reason, entries in sorted(found.items(), key=lambda item: -len(item[1])):
        tensors = [name for entry in entries for name in entry.tensors]
        more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
        lines.append(f"{reason}: {sum(e.units for e in entries)} units of {tensors[0]}{more}")
    return lines


def _operator(reason: str) -> str:
    """Returns a reason in one short line, without shapes, and without the numbers in names of modules."""
    short = shorten(re.sub(r"\[[\d, ]*\](?:, )?", "", reason.partition("\n")[0]), 200, placeholder=" ...")
    return re.sub(r"\.\d+\b", ".*", short.replace("()", ""))
