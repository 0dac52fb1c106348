"""Descriptions of graphs that need no PyTorch: names, types and shapes of inputs, and names of outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trackers.errors import TrackerError

TYPES = ("uint8", "bool", "int64", "float32")  # of inputs


@dataclass(frozen=True)
class InputSpec:
    """Input of a graph.

    Attributes:
        type: name of its NumPy type.
        shape: shape for one target.
        batched: whether the first dim is the number of targets.
    """

    type: str
    shape: tuple[int, ...]
    batched: bool


@dataclass(frozen=True)
class GraphSpec:
    """Inputs and outputs of a graph.

    Attributes:
        inputs: by name. If any of them is batched, every output has the number of targets as first dim.
        outputs: names, in the order of the model's outputs.
    """

    inputs: Mapping[str, InputSpec]
    outputs: tuple[str, ...]

    @property
    def is_batched(self) -> bool:
        """Whether the graph computes several targets at once."""
        return any(spec.batched for spec in self.inputs.values())

    def arrays(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the inputs as contiguous arrays of the graph's types."""
        return {name: np.ascontiguousarray(given[name], spec.type) for name, spec in self.inputs.items()}

    def single(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of each target for its own. Inputs that are not batched are those of all targets."""
        count = len(next(arrays[name] for name, spec in self.inputs.items() if spec.batched))
        return [
            {name: arrays[name][i : i + 1] if spec.batched else arrays[name] for name, spec in self.inputs.items()}
            for i in range(count)
        ]

    def check(self, graph: str, inputs: Mapping[str, str], outputs: list[str]) -> None:
        """Checks that a model has the inputs and outputs of this description.

        Args:
            graph: name of the graph, for the message.
            inputs: names of the NumPy types of the model's inputs, by name.
            outputs: names of the model's outputs, in their order.

        Raises:
            TrackerError: names or types differ.
        """
        expected = {name: spec.type for name, spec in self.inputs.items()}
        if dict(inputs) != expected or outputs != [*self.outputs]:
            raise TrackerError(
                f"the model of graph {graph} has the inputs {_shortened(inputs)} and the outputs {outputs[:20]}, but "
                f"{expected} and {[*self.outputs]} are expected; export the tracker again"
            )


def _shortened(inputs: Mapping[str, str]) -> dict[str, str]:
    return dict(list(inputs.items())[:20])


def spec_in(specs: Mapping[str, GraphSpec], graph: str) -> GraphSpec:
    """Returns the description of a graph.

    Raises:
        TrackerError: there is none, because an export lacks the graph, or has the rules of another tracker.
    """
    if graph not in specs:
        raise TrackerError(f"the tracker has no graph {graph}, but its rules need it; export it again")
    return specs[graph]
