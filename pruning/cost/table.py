"""Table of groups: units, parameters and MACs of every group before and after a cut."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from torch import nn

from pruning.arguments import InputFunction
from pruning.cost.costs import Cost, MacCost, ParamCost
from pruning.groups import Group


def group_table(network: nn.Module, groups: Sequence[Group], kept: Mapping[str, int], inputs: InputFunction) -> Table:
    """Returns a table of units, parameters and MACs by group, in `network` and after the cut.

    The cost of a group is the amount by which the cost of the network falls if all units of the group are removed.
    Groups share tensors, so these amounts do not add up to the total.

    Args:
        network: the network before the cut; only shapes are read.
        groups: the groups of the network.
        kept: number of kept units by group name; a group that is not listed keeps all its units.
        inputs: returns the arguments of the forward that is counted, for the network or a cut copy of it.
    """
    before = [g.size for g in groups]
    after = [kept.get(g.name, g.size) for g in groups]
    costs = {"params": ParamCost(network, groups), "MACs": MacCost(network, groups, inputs)}
    table = Table(
        title="groups before and after the cut; params, MACs: the saving if all units of a group were removed"
    )
    table.add_column("group", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for column in ("units", *costs):
        for when in (column, "after"):
            table.add_column(when, justify="right", no_wrap=True)
    for i, group in enumerate(groups):
        shares = [_with_prefix(_saving(cost, counts, i)) for cost in costs.values() for counts in (before, after)]
        table.add_row(group.name, group.kind, str(before[i]), str(after[i]), *shares)
    table.add_section()
    for name, show in (("network", _with_prefix), ("share", "{:.2%}".format)):
        numbers = [(sum(before), sum(after)), *((cost(before), cost(after)) for cost in costs.values())]
        row = [show(n / whole if name == "share" else n) for whole, left in numbers for n in (whole, left)]
        table.add_row(name, "", *row)
    return table


def _saving(cost: Cost, counts: Sequence[int], group: int) -> float:
    """Returns how much the cost would fall if all units of one group were removed."""
    return cost(counts) - cost([0 if i == group else n for i, n in enumerate(counts)])


def _with_prefix(number: float) -> str:
    """Formats a number with the prefix G, M or k: 1,234,567 becomes "1.23 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f}"
