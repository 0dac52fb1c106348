"""ONNX Runtime as the runtime of a tracker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trackers.errors import TrackerError
from trackers.runtimes.graph_spec import GraphSpec, spec_in
from trackers.runtimes.libraries import required
from trackers.runtimes.runtime import Array, NumPyRuntime

# Names of NumPy's types, by those of ONNX Runtime.
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(bool)": "bool", "tensor(int64)": "int64"}


class ONNXRuntime(NumPyRuntime):
    """Runs ONNX models.

    Args:
        models: file or content of the model of each graph.
        specs: inputs and outputs of each graph.
        device: "cpu", "cuda" or "cuda:N".
        threads: CPU threads; None for one per core.

    Raises:
        TrackerError: ONNX Runtime is not installed, does not run on the device, or cannot read a model.
    """

    def __init__(
        self, models: Mapping[str, Path | bytes], specs: Mapping[str, GraphSpec], device: Any, threads: int | None
    ):
        self.library = required("onnxruntime", "runtime=onnx", "runtime")
        self.specs = dict(specs)
        self.sessions = {}
        providers = self._providers(str(device))
        first, _ = providers[0]
        for name, model in models.items():
            options = self.library.SessionOptions()
            if threads is not None:
                options.intra_op_num_threads = options.inter_op_num_threads = threads
            options.log_severity_level = 4  # errors are raised, too
            content = model if isinstance(model, bytes) else str(model)
            try:
                session = self.library.InferenceSession(content, options, providers=providers)
            except Exception as error:  # a damaged model causes one of many errors without a common class
                place = name if isinstance(model, bytes) else f"{name} in {model}"
                raise TrackerError(
                    f"ONNX Runtime cannot read the model of graph {place} ({_line(error)}); export it again"
                ) from error
            if first not in session.get_providers():  # it would compute on the CPU, and only its log says why
                raise TrackerError(
                    f"ONNX Runtime cannot use device={device}: its {first} does not start, perhaps because a library "
                    "of CUDA or cuDNN is missing; use device=cpu"
                )
            inputs = {value.name: TYPES.get(value.type, value.type) for value in session.get_inputs()}
            self.specs[name].check(name, inputs, [value.name for value in session.get_outputs()])
            self.sessions[name] = session

    def run(self, graph: str, **inputs: Array) -> dict[str, np.ndarray]:
        """Returns the outputs of a graph by name."""
        spec = spec_in(self.specs, graph)
        try:
            results = self.sessions[graph].run(None, spec.arrays(inputs))
        except Exception as error:  # its errors have no common class; several of them are bare RuntimeErrors
            raise TrackerError(f"ONNX Runtime cannot run graph {graph}: {_line(error)}") from error
        return dict(zip(spec.outputs, results, strict=True))

    def _providers(self, device: str) -> list[tuple[str, dict[str, int]]]:
        """Returns what ONNX Runtime calls the device, with its settings; behind a GPU, also the CPU for the rest."""
        on_cpu: list[tuple[str, dict[str, int]]] = [("CPUExecutionProvider", {})]
        kind, _, number = device.partition(":")
        if kind == "cpu":
            return on_cpu
        provider, found = "CUDAExecutionProvider", self.library.get_available_providers()
        if kind != "cuda" or provider not in found or not (number or "0").isdecimal():
            raise TrackerError(
                f"this ONNX Runtime does not run on device={device}, it offers {', '.join(found)}; use device=cpu, or "
                "for a GPU of NVIDIA pip install onnxruntime-gpu in place of onnxruntime"
            )
        return [(provider, {"device_id": int(number or 0)}), *on_cpu]


def _line(error: Exception) -> str:
    """Returns the first line of a message, and no more than a terminal's line or two."""
    return str(error).strip().partition("\n")[0][:300]
