"""Loading of any tracker: a checkpoint, which needs PyTorch, or an export or one of OpenCV's, which do not."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackers.errors import CheckpointError
from trackers.exported import ExportedTracker, is_export
from trackers.online import OnlineTracker
from trackers.opencv import OpenCVTracker, is_opencv

if TYPE_CHECKING:
    from trackers.checkpoints.gate_reading import GateReading


def load_tracker(
    path: str | Path,
    device: Any = "cpu",
    gates: "GateReading | None" = None,
    runtime: str | None = None,
    threads: int | None = None,
) -> OnlineTracker:
    """Loads a tracker for `init(image, box)` and `update(image)`.

    Args:
        path: a file or folder for `load_checkpoint`, the folder of an export, or "opencv_mil", "opencv_csrt" or another
            tracker of OpenCV, see `trackers.opencv`. No configuration is needed.
        device: device on which the tracker runs, e.g. "cpu" or "cuda".
        gates: interpretation of the gates in files of the ICASSP 2023 paper; None for the default.
        runtime: what runs the network: "eager", "compile", "onnx" or "openvino", see `trackers.runtimes.choices`. None
            stands for "eager", and of an export for the runtime that it is made for.
        threads: CPU threads of ONNX Runtime and OpenVINO; None leaves the number to them. PyTorch has its own setting,
            `torch.set_num_threads`.

    Raises:
        CheckpointError: the path holds no tracker, or a damaged one; or it is no export, and PyTorch is missing.
        TrackerError: the runtime is not known, not installed, or does not run on the device.
    """
    if is_opencv(path):
        return OnlineTracker(OpenCVTracker(str(path)), device, runtime, threads)
    if is_export(path):
        return OnlineTracker(ExportedTracker.read(path), device, runtime, threads)
    try:
        from trackers.checkpoints.checkpoint import load_checkpoint
        from trackers.checkpoints.gate_reading import DEFAULT_READING
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} is no export, and everything else needs {error.name}, which is not installed. Copy an export from "
            f"a machine with PyTorch: python eval.py action=export checkpoint={path} format=onnx"
        ) from error
    return OnlineTracker(load_checkpoint(path, gates=gates or DEFAULT_READING).tracker, device, runtime, threads)
