"""Checks that a network can be read: it runs on the meta device with the arguments that its user gives."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning.arguments import InputFunction, checked_function, first_argument
from pruning.cost import copy_to_meta
from pruning.errors import PruningError, first_line
from pruning.groups.checks import check_some_groups


def readable_copy(network: Any, inputs: Any) -> tuple[nn.Module, Mapping[str, Any], InputFunction]:
    """Returns a copy of a network and the arguments of its forward, both on the meta device, and checked `inputs`.

    Args:
        network: the network; it stays as it is.
        inputs: returns the arguments of a forward.

    Raises:
        PruningError: this is no network that can be copied, or it does not run.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise PruningError("torch.jit made this network, so its operators cannot be read; give the network before that")
    check_some_groups(network, [])
    function = checked_function(inputs, network)
    name, kind = first_argument(network), type(network).__name__
    call = f"find_groups(network, lambda network: {{'{name}': {name}}})"
    if function is None:
        raise PruningError(f"groups are found in a run of the network, which needs inputs, not None; e.g. {call}")
    try:
        copy = copy_to_meta(network)
    except Exception as error:  # of any kind: e.g. a lock, an open file, a weight that another one computes
        raise PruningError(f"{kind} cannot be copied, and groups are found in a copy: {first_line(error)}") from error
    arguments = tree_map_only(Tensor, lambda t: t.to("meta"), dict(function(copy)))
    try:
        with torch.no_grad():
            copy(**arguments)
    except Exception as error:  # of any kind: the network is the user's
        reason = first_line(error)
        hint = "the code must not decide by values, which do not exist there" if "meta" in reason else f"e.g. {call}"
        raise PruningError(
            f"{kind} does not run on the meta device with the arguments {sorted(arguments)}: {reason}; {hint}"
        ) from error
    return copy, arguments, function
