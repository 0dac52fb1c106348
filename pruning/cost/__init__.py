"""Costs: parameters, MACs or milliseconds of a network, and of all its cuts without making them.

`costs` counts, and has each cost as a function of the kept counts. `tracing` finds the sizes that it needs. `latency`
adds up measured times, and `turns` times calls that take turns. `table` shows units and costs before and after a cut.
No module changes the network that it is given: networks run as copies.
"""

from pruning.cost.costs import (
    Cost,
    MacCost,
    Macs,
    ParamCost,
    Polynomial,
    Term,
    UnitCost,
    copy_to_meta,
    count_macs,
    count_params,
)

__all__ = [
    "Cost",
    "MacCost",
    "Macs",
    "ParamCost",
    "Polynomial",
    "Term",
    "UnitCost",
    "copy_to_meta",
    "count_macs",
    "count_params",
]
