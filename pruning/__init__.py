"""Pruning of any network: which of its units can only be cut together is declared, or found in the network.

The package is the part of light-weight-trackers that imports no other part.

- `groups`: a network declares its `Group`s; the `Slice`s of a group are the tensor entries that its units own.
  `group_checks` compares declarations with a network.
- `discovery`: `find_groups` finds the groups of a network that declares none.
- `gates`: one learnable scale and one mask value per unit, multiplied into the weights around every step.
  `gated_tensor` does so for one tensor.
- `criteria`: score units, by weights alone or by gates and gradients of a training; `ranking` makes scores comparable.
- `cost`, `latency`: parameters, MACs, units or milliseconds as functions of the kept counts, with sizes from `tracing`.
  `rounding` measures which multiples of units are fast.
- `budget`: turns ranks, a cost and a ratio into a `Plan`, the kept units of every group (`plan`).
- `surgery`: cuts the network to a plan. `layer_cuts` holds what the layers of torch allow, `multihead_attention` what a
  cut leaves of torch's attention, `attributes` the numbers in modules that count units, and `tensor_places` the names
  of tied weights. `norms` and `kept_statistics` make norms exact while units are only masked.
- `trial`: cuts copies of the network before a training, so that a wrong declaration is found early. `cut_errors` and
  `layer_sizes` tell what fails and which tensor a group has forgotten; `arguments` checks the inputs that users give.
- `pruner`: `Pruner` joins these steps: `attach` puts gates on, `update` closes gates, `finish` cuts and checks.
  `expected_size` tells before a training what a cut will keep.
- `callback`: `PruningCallback` does the same during a Lightning training, along one of the `schedules`;
  `lightning_network` takes the network and its arguments from any LightningModule.
- `saved`: `save_pruned` and `load_pruned`, a child as weights and plain data. `group_data` writes groups as data,
  `state_dicts` reads weights, and `models` builds networks by name.
- `command_line`: `python -m pruning MODEL --ratio R`. `turns` times parent and child in turns.
- `table`: the group table, units and costs before and after the cut.
- `errors`: `PruningError`, for input that the user can correct.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning.discovery.finding import Found, find_groups
    from pruning.errors import PruningError
    from pruning.group_checks import check_groups
    from pruning.groups import Group, Slice
    from pruning.plan import Plan
    from pruning.pruner import Pruner
    from pruning.saved import load_pruned, save_pruned
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

_MODULES = {"Group": "groups", "Slice": "groups", "check_groups": "group_checks", "Plan": "plan", "Pruner": "pruner"}
_MODULES |= {"compact": "surgery", "PruningError": "errors"}
_MODULES |= dict.fromkeys(("Found", "find_groups"), "discovery.finding")
_MODULES |= dict.fromkeys(("load_pruned", "save_pruned"), "saved")


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that `pruning.errors` does not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pruning.{_MODULES[name]}"), name)
