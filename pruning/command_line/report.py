"""What `python -m pruning` prints: groups, what is left whole, and parent against child."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.table import Table

from pruning.discovery.finding import LeftWhole
from pruning.groups import Group


def table_of_groups(groups: Sequence[Group], kept: Mapping[str, int]) -> Table:
    """Returns a table of all groups: name, kind, units and kept units. A group without a count is protected."""
    table = Table(title="groups")
    table.add_column("group", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for column in ("units", "kept"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(group.name, group.kind, str(group.size), str(kept.get(group.name, "protected")))
    return table


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
    short = re.sub(r"\[[\d, ]*\](?:, )?", "", reason.partition("\n")[0][:200])
    return re.sub(r"\.\d+\b", ".*", short.replace("()", ""))


def table_of_costs(costs: Mapping[str, Sequence[float]]) -> Table:
    """Returns a table with the numbers of the parent and of the child, and the share that the child has."""
    table = Table("", title="parent and child")
    for column in ("parent", "child", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, (parent, child) in costs.items():
        numbers = (f"{n:,}" if isinstance(n, int) else f"{n:.2f}" for n in (parent, child))
        table.add_row(name, *numbers, f"{child / max(parent, 1e-9):.1%}")
    return table
