"""Interface of all runtimes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any  # an array of the runtime (NumPy's, or a tensor on its device), or a NumPy array


class Runtime(ABC):
    """Runs the graphs of one tracker, named functions from arrays to arrays.

    Results are arrays of the runtime, which may lie on a device. Other calls of the same runtime take them as they are,
    and `numpy` reads them.
    """

    def __deepcopy__(self, memo: Any) -> "Runtime":
        """Returns itself: copies of a target share what runs the network, which may not be copyable."""
        return self

    @abstractmethod
    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        """Returns the outputs of a graph by name.

        Args:
            graph: name of the graph.
            inputs: all inputs of the graph by name, NumPy arrays or arrays of this runtime.
        """

    @abstractmethod
    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Returns arrays of this runtime, joined along an axis."""

    @abstractmethod
    def zeros(self, count: int, like: Array) -> Array:
        """Returns zeros (count, ...) with the type and the further dims of an array (n, ...) of this runtime."""

    @abstractmethod
    def write(self, target: Array, start: int, rows: Array) -> None:
        """Overwrites rows of an array (n, ...) of this runtime with `rows` (m, ...), from row `start` on."""

    @abstractmethod
    def numpy(self, array: Array) -> np.ndarray:
        """Returns an array of this runtime as a NumPy array, after all work on the device is done."""


class NumPyRuntime(Runtime):
    """Base class of runtimes whose arrays are NumPy's."""

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Returns arrays joined along an axis."""
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis)

    def zeros(self, count: int, like: Array) -> Array:
        """Returns zeros (count, ...) with the type and the further dims of an array (n, ...)."""
        return np.zeros((count, *like.shape[1:]), like.dtype)

    def write(self, target: Array, start: int, rows: Array) -> None:
        """Overwrites rows of an array (n, ...) with `rows` (m, ...), from row `start` on."""
        target[start : start + len(rows)] = rows

    def numpy(self, array: Array) -> np.ndarray:
        """Returns the array."""
        return array
