"""Places of tensors in a network. A tied weight has several."""

from collections import defaultdict
from typing import NamedTuple

from torch import Tensor, nn


class Place(NamedTuple):
    """Place of a parameter or buffer: its path in the network, the module that holds it, and its name there."""

    path: str
    module: nn.Module
    name: str

    @property
    def parent(self) -> str:
        """Path of the module."""
        return self.path.rpartition(".")[0]


def find_places(network: nn.Module) -> dict[Tensor, list[Place]]:
    """Returns the places of all parameters and buffers. A module with two names counts once, under the first one."""
    places: dict[Tensor, list[Place]] = defaultdict(list)
    for prefix, module in network.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                places[tensor].append(Place(f"{prefix}.{name}".lstrip("."), module, name))
    return places
