"""Tables that `python -m pruning` prints: the groups, and the parent against the child."""

from collections.abc import Mapping, Sequence

from rich.table import Table

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


def table_of_costs(costs: Mapping[str, Sequence[float]]) -> Table:
    """Returns a table with the numbers of the parent and of the child, and the share that the child has."""
    table = Table("", title="parent and child")
    for column in ("parent", "child", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, (parent, child) in costs.items():
        numbers = (f"{n:,}" if isinstance(n, int) else f"{n:.2f}" for n in (parent, child))
        table.add_row(name, *numbers, f"{child / max(parent, 1e-9):.1%}")
    return table
