"""PyTorch's compiler as the runtime of a tracker."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed

from trackers.errors import TrackerError
from trackers.runtimes.graph import Graph
from trackers.runtimes.runtime import Array
from trackers.runtimes.torch_runtime import EagerRuntime


class CompiledRuntime(EagerRuntime):
    """Runs graphs after `torch.compile`, on CUDA as CUDA graphs. A graph is compiled in its first call.

    Args:
        graphs, device: see `EagerRuntime`.
    """

    def __init__(self, graphs: Mapping[str, Graph], device: str | torch.device):
        super().__init__(graphs, device)
        self.captured = self.device.type == "cuda"
        mode = "reduce-overhead" if self.captured else "default"
        self.compiled = {name: torch.compile(module, mode=mode) for name, module in self.modules.items()}

    @torch.inference_mode()
    def run(self, graph: str, **inputs: Array) -> dict[str, Tensor]:
        """Returns the outputs of a graph by name, tensors on the device.

        Raises:
            TrackerError: the graph cannot be compiled on this machine, e.g. because it has no C++ compiler.
        """
        try:
            results = self.compiled[graph](**{name: self._tensor(value) for name, value in inputs.items()})
        except BackendCompilerFailed as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrackerError(
                f"runtime=compile cannot compile graph {graph}: {reason}; it needs a C++ compiler, e.g. apt install "
                "g++, and runtime=onnx needs none"
            ) from error
        # The next call of a CUDA graph writes to the same memory.
        return {name: value.clone() for name, value in results.items()} if self.captured else results
