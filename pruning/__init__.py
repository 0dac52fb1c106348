"""Pruning of any network: which of its units can only be cut together is declared, or found in the network.

The package is the part of light-weight-trackers that imports no other part.

A room may import the rooms below it in this list. The first ones know steps of a training, the last ones only words:

- `command_line`: `python -m pruning MODEL --ratio R`.
- `callback`: `PruningCallback` prunes during a Lightning training, along one of the `schedules`; `lightning_network`
  takes the network and its arguments from any LightningModule.
- `pruner`: `Pruner` joins all steps: `attach` puts gates on, `update` closes gates, `finish` cuts and checks.
- `saving`: `save_pruned` and `load_pruned`, a child as weights and plain data; networks by name.
- `discovery`: `find_groups` finds the groups of a network that declares none.
- `trial`: cuts copies of the network before a training, so that a wrong declaration is found early.
- `budget`: ranks units, and turns ranks, a cost and a ratio into a `Plan`.
- `criteria`: score units, by weights alone or by gates and gradients of a training.
- `cost`: parameters, MACs, units or milliseconds as functions of the kept counts.
- `gates`: one learnable scale and one mask value per unit, multiplied into the weights around every step.
- `surgery`: cuts the network to a plan.
- `plan`: `Plan`, the kept units of every group.
- `groups`: a network declares its `Group`s; the `Slice`s of a group are the tensor entries that its units own.
- `arguments`: checks the arguments of a forward that users give.
- `errors`: `PruningError`, for input that the user can correct.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning.discovery.finding import Found, find_groups
    from pruning.errors import PruningError
    from pruning.groups import Group, Slice
    from pruning.groups.checks import check_groups
    from pruning.plan import Plan
    from pruning.pruner import Pruner
    from pruning.saving.saved import load_pruned, save_pruned
    from pruning.surgery import compact

__all__ = [
    "Found",
    "Group",
    "Plan",
    "Pruner",
    "PruningError",
    "Slice",
    "check_groups",
    "compact",
    "find_groups",
    "load_pruned",
    "save_pruned",
]

_MODULES = {"Group": "groups", "Slice": "groups", "check_groups": "groups.checks", "Plan": "plan", "Pruner": "pruner"}
_MODULES |= {"compact": "surgery", "PruningError": "errors"}
_MODULES |= dict.fromkeys(("Found", "find_groups"), "discovery.finding")
_MODULES |= dict.fromkeys(("load_pruned", "save_pruned"), "saving.saved")


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that `pruning.errors` does not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pruning.{_MODULES[name]}"), name)
