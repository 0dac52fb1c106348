"""The group table: what every group costs before and after."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from torch import nn

from pruning.cost import Cost, MacCost, ParamCost
from pruning.groups import Group
from pruning.tracing import Inputs


def group_table(network: nn.Module, groups: Sequence[Group], kept: Mapping[str, int], inputs: Inputs) -> Table:
    """Units, parameters and multiply-accumulates by group, in `network` and once `kept` units of each group are left.

    A group's share of a cost is what would be saved without all of its units. Groups share tensors, so that shares do
    not add up to the total.

    Args:
        network: the network before it is cut; only shapes are read.
        groups: its groups.
        kept: kept units by group name; a group that is not named keeps all.
        inputs: gives the arguments of the forward that is counted, also of a cut copy of the network.
    """
    before = [g.size for g in groups]
    after = [kept.get(g.name, g.size) for g in groups]
    costs = {"params": ParamCost(network, groups), "MACs": MacCost(network, groups, inputs)}
    table = Table(title="groups before and after the cut; their params and MACs are what would go with all their units")
    table.add_column("group", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for column in ("units", *costs):
        for when in (column, "after"):
            table.add_column(when, justify="right", no_wrap=True)
    for i, group in enumerate(groups):
        shares = [_short(_share(cost, counts, i)) for cost in costs.values() for counts in (before, after)]
        table.add_row(group.name, group.kind, str(before[i]), str(after[i]), *shares)
    table.add_section()
    for name, show in (("network", _short), ("share", "{:.2%}".format)):
        numbers = [(sum(before), sum(after)), *((cost(before), cost(after)) for cost in costs.values())]
        row = [show(n / whole if name == "share" else n) for whole, left in numbers for n in (whole, left)]
        table.add_row(name, "", *row)
    return table


def _share(cost: Cost, counts: Sequence[int], group: int) -> float:
    """What goes with all units of one group."""
    return cost(counts) - cost([0 if i == group else n for i, n in enumerate(counts)])


def _short(number: float) -> str:
    """1,234,567 as 1.23 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f}"
