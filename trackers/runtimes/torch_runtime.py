"""Runtimes of PyTorch: eager and compiled."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trackers.runtimes.graph import Graph
from trackers.runtimes.runtime import Array, Runtime


class EagerRuntime(Runtime):
    """Runs the modules of graphs as they are.

    Args:
        graphs: by name, on the device.
        device: torch device.
    """

    def __init__(self, graphs: Mapping[str, Graph], device: str | torch.device):
        self.device = torch.device(device)
        self.modules = {name: graph.module.eval() for name, graph in graphs.items()}

    @torch.inference_mode()
    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        """Returns the outputs of a graph by name, tensors on the device."""
        return self.modules[graph](**{name: self._tensor(value) for name, value in inputs.items()})

    @torch.inference_mode()
    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Tensor:
        """Returns tensors joined along a dim."""
        return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays), axis)

    @torch.inference_mode()
    def zeros(self, count: int, like: Array) -> Tensor:
        """Returns zeros (count, ...) with the type and the further dims of a tensor (n, ...)."""
        return like.new_zeros(count, *like.shape[1:])

    @torch.inference_mode()
    def write(self, target: Array, start: int, rows: Array) -> None:
        """Overwrites rows of a tensor (n, ...) with `rows` (m, ...), from row `start` on."""
        target[start : start + len(rows)] = rows

    def numpy(self, array: Array) -> np.ndarray:
        """Returns a tensor as a NumPy array, which waits for the device."""
        return array.cpu().numpy()

    def _tensor(self, value: Array) -> Tensor:
        return (value if isinstance(value, Tensor) else torch.from_numpy(value)).to(self.device)
