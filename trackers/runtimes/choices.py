"""Choice of a runtime by its name."""

from collections.abc import Callable, Mapping
from typing import Any

from trackers.errors import TrackerError
from trackers.runtimes.graph import Graph
from trackers.runtimes.runtime import Runtime


def _eager(graphs: Mapping[str, Graph], device: Any, threads: int | None) -> Runtime:
    from trackers.runtimes.torch_runtime import EagerRuntime

    return EagerRuntime(graphs, device)


def _compile(graphs: Mapping[str, Graph], device: Any, threads: int | None) -> Runtime:
    from trackers.runtimes.compiled_runtime import CompiledRuntime

    return CompiledRuntime(graphs, device)


def _onnx(graphs: Mapping[str, Graph], device: Any, threads: int | None) -> Runtime:
    from trackers.runtimes.conversion import converted
    from trackers.runtimes.onnx_runtime import ONNXRuntime

    return ONNXRuntime(*converted(graphs), device, threads)


def _openvino(graphs: Mapping[str, Graph], device: Any, threads: int | None) -> Runtime:
    from trackers.runtimes.conversion import converted
    from trackers.runtimes.openvino_runtime import OpenVINORuntime

    return OpenVINORuntime(*converted(graphs), device, threads)


# Each entry imports its own library, when it is called.
RUNTIMES: dict[str, Callable[[Mapping[str, Graph], Any, int | None], Runtime]] = {
    "eager": _eager,
    "compile": _compile,
    "onnx": _onnx,
    "openvino": _openvino,
}


def open_runtime(graphs: Mapping[str, Graph], runtime: str, device: Any, threads: int | None) -> Runtime:
    """Returns what runs the graphs of a tracker.

    Args:
        graphs: by name, on the device.
        runtime: "eager" (PyTorch as it is), "compile" (`torch.compile`, on CUDA with CUDA graphs), "onnx" (ONNX
            Runtime) or "openvino". The last two convert the graphs to float32 in memory, which takes seconds.
        device: torch device.
        threads: CPU threads of a runtime without PyTorch; None leaves the number to the runtime.

    Raises:
        TrackerError: the runtime is not known, not installed, or does not run on the device.
    """
    if runtime not in RUNTIMES:
        raise TrackerError(f"runtime={runtime} is not known; choose one of {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime](graphs, device, threads)
