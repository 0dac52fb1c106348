"""Weights of a network as tensors by name: read from files without pickled code, and loaded strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import PruningError, describe_value


def unique_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Returns the state dict of a network, in which a tied weight has only the first of its names."""
    names: dict[Tensor, str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        names.setdefault(tensor, name)
    return {name: tensor.detach() for tensor, name in names.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file by name; nothing in the file is executed.

    Args:
        path: a file .safetensors, or one that `torch.save(network.state_dict(), path)` wrote.

    Raises:
        PruningError: there is no such file, or it holds no tensors by name.
    """
    example = "torch.save(network.state_dict(), 'weights.pt')"
    if not path.is_file():
        raise PruningError(f"there is no file {path}; write one by {example}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: Any = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle, zip and torch have errors of their own for broken files
        # The text of torch would recommend to run the code in the file.
        raise PruningError(
            f"{path} holds no tensors that can be read safely ({type(error).__name__}); write it by {example}"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        found = (
            f"the entries {sorted(map(str, tensors))[:5]}" if isinstance(tensors, Mapping) else describe_value(tensors)
        )
        raise PruningError(f"{path} must hold tensors by name, not {found}; write it by {example}")
    return dict(tensors)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Loads tensors into a network, which must have exactly these names and shapes.

    Args:
        network: the network.
        tensors: by name; a tied weight needs one of its names.
        source: where the tensors come from, for error messages.

    Raises:
        PruningError: a name is missing or unknown, or a shape differs.
    """
    state = network.state_dict(keep_vars=True)
    given = {id(state[name]) for name in tensors if name in state}
    missing = [name for name, tensor in state.items() if id(tensor) not in given]
    unknown = [name for name in tensors if name not in state]
    shapes = [n for n in tensors if n in state and tensors[n].shape != state[n].shape]
    kind = type(network).__name__
    if missing or unknown:
        raise PruningError(
            f"{source} holds the weights of another network than this {kind}: {len(missing)} tensors are missing "
            f"{missing[:3]}, {len(unknown)} are unknown {unknown[:3]}"
        )
    if shapes:
        name = shapes[0]
        raise PruningError(
            f"{source} holds the weights of another network than this {kind}: {len(shapes)} tensors differ in shape, "
            f"e.g. {name!r} {tuple(tensors[name].shape)}, here {tuple(state[name].shape)}"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
