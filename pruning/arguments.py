"""Arguments of a network's forward, as users give them: by name, and as a function of the network for cut copies."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning.errors import PruningError, describe_value

# Returns the arguments of the forward of a network or of a cut copy of it.
InputFunction = Callable[[nn.Module], Mapping[str, Any]]


def checked_function(inputs: Any, network: nn.Module) -> InputFunction | None:
    """Returns `inputs`, which must be None or a function of a network, such that it checks the arguments it returns.

    Raises:
        PruningError: `inputs` is no function; later, if it does not return arguments by name.
    """
    if inputs is None:
        return None
    name = first_argument(network)
    if not callable(inputs) or isinstance(inputs, nn.Module):
        raise PruningError(
            f"inputs must be a function that returns the arguments of a forward, not {describe_value(inputs)}; e.g. "
            f"inputs=lambda network: {{'{name}': {name}}}"
        )

    def arguments(of: nn.Module) -> Mapping[str, Any]:
        given = inputs(of)
        if not _are_named(given):
            raise PruningError(
                f"inputs(network) must return the arguments of a forward by name, not {describe_value(given)}; e.g. "
                f"{{'{name}': {name}}}"
            )
        return given

    return arguments


def list_draws(inputs: Any, network: nn.Module) -> list[Mapping[str, Any]]:
    """Returns draws of the arguments of a forward as a list, on the device of the network.

    Raises:
        PruningError: `inputs` is no list of arguments by name, or empty.
    """
    name = first_argument(network)
    example = f"finish([{{'{name}': {name}}}])"
    if isinstance(inputs, Tensor | Mapping | str) or not isinstance(inputs, Iterable):
        raise PruningError(
            f"inputs must be a list with the arguments of one or more forwards, not {describe_value(inputs)}; "
            f"e.g. {example}"
        )
    draws = list(inputs)
    if not draws:
        raise PruningError(f"inputs=[] leaves nothing to compare; give the arguments of a forward, e.g. {example}")
    for i, draw in enumerate(draws):
        if not _are_named(draw):
            raise PruningError(
                f"inputs[{i}] must hold the arguments of a forward by name, not {describe_value(draw)}; e.g. {example}"
            )
    device = next(network.parameters()).device
    return [tree_map_only(Tensor, lambda t: t.to(device), dict(draw)) for draw in draws]


def _are_named(arguments: Any) -> bool:
    return isinstance(arguments, Mapping) and all(isinstance(name, str) for name in arguments)


def first_argument(network: nn.Module) -> str:
    """Returns the name of the first argument of the network's forward."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p.name for p in inspect.signature(network.forward).parameters.values() if p.kind in kinds]
    return named[0] if named else "x"
