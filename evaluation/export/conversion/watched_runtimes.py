"""Runtimes that watch what a tracker asks of another runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackers.rules import OnlineRules
from trackers.runtimes.runtime import Array, Runtime


@dataclass(frozen=True)
class OpenedTracker:
    """Rules and a runtime in the form that the online loop opens.

    Attributes:
        rules: online rules.
        runtime: runs the graphs.
    """

    rules: OnlineRules
    runtime: Runtime

    def open(self, runtime: str | None, device: Any, threads: int | None) -> tuple[OnlineRules, Runtime]:
        """Returns the rules and the runtime; the arguments have no effect."""
        return self.rules, self.runtime


class RecordingRuntime(Runtime):
    """Runs graphs in another runtime, and records the inputs of each call.

    Args:
        runtime: the other runtime.

    Attributes:
        inputs: by graph, the inputs of each call as NumPy arrays of their own.
    """

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.inputs: dict[str, list[dict[str, np.ndarray]]] = {}

    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        """Returns the outputs of a graph by name."""
        arrays = {name: np.array(self._numpy(value)) for name, value in inputs.items()}
        self.inputs.setdefault(graph, []).append(arrays)
        return self.runtime.run(graph, **inputs)

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Returns arrays joined along an axis."""
        return self.runtime.concatenate(arrays, axis)

    def zeros(self, count: int, like: Array) -> Array:
        """Returns zeros (count, ...) with the type and the further dims of an array (n, ...)."""
        return self.runtime.zeros(count, like)

    def write(self, target: Array, start: int, rows: Array) -> None:
        """Overwrites rows of an array (n, ...) with `rows` (m, ...), from row `start` on."""
        self.runtime.write(target, start, rows)

    def numpy(self, array: Array) -> np.ndarray:
        """Returns an array of the other runtime as a NumPy array."""
        return self.runtime.numpy(array)

    def _numpy(self, value: Array) -> np.ndarray:
        return value if isinstance(value, np.ndarray) else self.runtime.numpy(value)


class ComparingRuntime(RecordingRuntime):
    """Runs graphs in one runtime, and compares the outputs with those of a second one for the same inputs.

    Args:
        runtime: the runtime whose outputs the tracker gets.
        other: the second runtime, whose arrays are NumPy's.

    Attributes:
        outputs: by graph and output, the largest difference and the largest finite value.
    """

    def __init__(self, runtime: Runtime, other: Runtime):
        super().__init__(runtime)
        self.other = other
        self.outputs: dict[str, dict[str, tuple[float, float]]] = {}

    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        """Returns the outputs of the first runtime by name."""
        results = self.runtime.run(graph, **inputs)
        others = self.other.run(graph, **{name: self._numpy(value) for name, value in inputs.items()})
        seen = self.outputs.setdefault(graph, {})
        for name, result in results.items():
            ours, theirs = (np.asarray(value, np.float64) for value in (self._numpy(result), others[name]))
            gap = np.abs(np.subtract(ours, theirs, out=np.zeros_like(ours), where=ours != theirs))  # inf - inf is NaN
            scale = np.abs(ours[np.isfinite(ours)]).max(initial=0.0)
            before = seen.get(name, (0.0, 0.0))
            seen[name] = float(np.maximum(gap.max(initial=0.0), before[0])), float(max(scale, before[1]))
        return results
