"""OpenVINO as the runtime of a tracker."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trackers.errors import TrackerError
from trackers.runtimes.graph_spec import GraphSpec, spec_in
from trackers.runtimes.libraries import required
from trackers.runtimes.runtime import Array, NumPyRuntime

HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}  # type of computing that is asked for


class OpenVINORuntime(NumPyRuntime):
    """Runs models of OpenVINO or ONNX on the CPU.

    Models are compiled for one target, since open shapes make OpenVINO slow; several targets run one after the other.

    Args:
        models: file (.xml or .onnx) or content (ONNX) of the model of each graph.
        specs: inputs and outputs of each graph.
        device: "cpu".
        threads: CPU threads; None leaves the number to OpenVINO.
        precision: of the models: "fp32", "fp16", "bf16" or "int8". Only with "bf16" does OpenVINO compute with fewer
            bits than the weights have; its own default is bfloat16 wherever the processor has it.

    Raises:
        TrackerError: OpenVINO is not installed, does not run on the device, or cannot read a model.
    """

    def __init__(
        self,
        models: Mapping[str, Path | bytes],
        specs: Mapping[str, GraphSpec],
        device: Any,
        threads: int | None,
        precision: str = "fp32",
    ):
        if str(device) != "cpu":
            raise TrackerError(f"runtime=openvino runs on the CPU alone, not on device={device}; set device=cpu")
        library = required("openvino", "runtime=openvino", "runtime")
        core = library.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self.specs = dict(specs)
        self.requests = {}
        for name, model in models.items():
            spec = self.specs[name]
            try:
                read = core.read_model(io.BytesIO(model) if isinstance(model, bytes) else str(model))
                inputs = {value.any_name: value.element_type.to_dtype().name for value in read.inputs}
                spec.check(name, inputs, [value.any_name for value in read.outputs])
                read.reshape({name: list(of.shape) for name, of in spec.inputs.items()})
                self.requests[name] = core.compile_model(read, "CPU", settings).create_infer_request()
            except RuntimeError as error:
                place = name if isinstance(model, bytes) else f"{name} in {model}"
                raise TrackerError(
                    f"OpenVINO cannot read the model of graph {place} ({_reason(error)}); export it again"
                ) from error

    def run(self, graph: str, **inputs: Array) -> dict[str, np.ndarray]:
        """Returns the outputs of a graph by name."""
        spec = spec_in(self.specs, graph)
        arrays = spec.arrays(inputs)
        results = [self._run(graph, own) for own in (spec.single(arrays) if spec.is_batched else [arrays])]
        return {name: self.concatenate([result[i] for result in results]) for i, name in enumerate(spec.outputs)}

    def _run(self, graph: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs of a graph for one target."""
        try:
            results = self.requests[graph].infer(arrays, share_inputs=True)
        except RuntimeError as error:
            raise TrackerError(f"OpenVINO cannot run graph {graph}: {_reason(error)}") from error
        return [results[i] for i in range(len(self.specs[graph].outputs))]


def _reason(error: Exception) -> str:
    """Returns the last line of a message, which holds its reason; the lines above are places in OpenVINO's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
