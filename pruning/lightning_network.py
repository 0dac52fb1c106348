"""The network of any LightningModule, and the arguments of its forward."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning.arguments import InputFunction
from pruning.errors import PruningError, first_line


def network_of(module: L.LightningModule) -> nn.Module:
    """Returns the attribute `network` of a LightningModule if it is a module; otherwise the LightningModule itself."""
    network = getattr(module, "network", None)
    return network if isinstance(network, nn.Module) else module


def inputs_of(module: L.LightningModule) -> InputFunction | None:
    """Returns a function that returns the arguments of the network's forward, None if the module gives none.

    They come from the method `frame_inputs` of the module, or else from its `example_input_array`, the arguments of its
    own forward.

    Raises:
        PruningError: the module does not run with `example_input_array`.
    """
    frame_inputs = getattr(module, "frame_inputs", None)
    if callable(frame_inputs):
        return frame_inputs
    if getattr(module, "example_input_array", None) is None:
        return None
    arguments = _arguments_of_network(module)
    return lambda network: arguments


def _arguments_of_network(module: L.LightningModule) -> Mapping[str, Any]:
    """Returns by name the arguments that a forward of the module passes to its network."""
    example = tree_map_only(Tensor, lambda t: t.to(module.device), module.example_input_array)
    args, kwargs = (example if isinstance(example, tuple) else (example,)), {}
    if isinstance(example, Mapping):
        args, kwargs = (), dict(example)
    network = network_of(module)
    if network is not module:
        args, kwargs = _received(module, args, kwargs)
    signature = inspect.signature(network.forward)
    try:
        named = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise PruningError(
            f"example_input_array does not fit the forward of {type(network).__name__}: {error}; e.g. "
            "self.example_input_array = torch.zeros(1, 3, 32, 32)"
        ) from error
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
    return named


def _received(module: L.LightningModule, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Runs a copy of the module, and returns what its network receives."""
    received: list[tuple[tuple, dict[str, Any]]] = []
    copied = copy.deepcopy(module).eval()

    def note(network: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        received.append((args, kwargs))

    network_of(copied).register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            copied(*args, **kwargs)
    except Exception as error:  # of any kind: the module is the user's
        raise PruningError(
            f"{type(module).__name__} does not run with its example_input_array: {first_line(error)}; correct it, or "
            "pass inputs=lambda network: {'x': torch.zeros(1, 3, 32, 32)} to the callback"
        ) from error
    if not received:
        raise PruningError(
            f"the forward of {type(module).__name__} does not call its network, so example_input_array does not give "
            "the network's arguments; pass inputs=lambda network: {'x': torch.zeros(1, 3, 32, 32)} to the callback"
        )
    return received[0]
