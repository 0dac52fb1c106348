"""Loading of any tracker: a checkpoint, which needs PyTorch, or an export or one of OpenCV's, which do not."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackers.errors import CheckpointError
from trackers.exported import ExportedTracker, is_export
from trackers.online import OnlineTracker, Openable
from trackers.opencv import OpenCVTracker, is_opencv

if TYPE_CHECKING:
    from trackers.checkpoints.gate_reading import GateReading


def load_tracker(
    path: str | Path,
    device: Any = "cpu",
    gates: "GateReading | None" = None,
    runtime: str | None = None,
    threads: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> OnlineTracker:
    """Loads a tracker for `init(image, box)` and `update(image)`.

    Args:
        path, gates, recipe, files: see `read_tracker`. No configuration is needed.
        device: device on which the tracker runs, e.g. "cpu" or "cuda".
        runtime: what runs the network: "eager", "compile", "onnx" or "openvino", see `trackers.runtimes.choices`. None
            stands for "eager", and of an export for the runtime that it is made for.
        threads: CPU threads of ONNX Runtime and OpenVINO; None leaves the number to them. PyTorch has its own setting,
            `torch.set_num_threads`.

    Raises:
        CheckpointError: the path holds no tracker, or a damaged one; or it is no export, and PyTorch is missing.
        TrackerError: the runtime is not known, not installed, or does not run on the device.
    """
    return OnlineTracker(read_tracker(path, gates, recipe, files), device, runtime, threads)


def read_tracker(
    path: str | Path,
    gates: "GateReading | None" = None,
    recipe: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> Openable:
    """Reads a tracker that is not opened in a runtime yet.

    Args:
        path: a file or folder for `load_checkpoint`, the folder of an export, or "opencv_mil", "opencv_csrt" or another
            tracker of OpenCV, see `trackers.opencv`.
        gates: interpretation of the gates in files of the ICASSP 2023 paper; None for the default.
        recipe: the `tracker` section of a configuration; None for the recipe in the checkpoint.
        files: of the networks of OpenCV's trackers, e.g. {"net": "vittrack.onnx"}.

    Returns:
        A `trackers.base.Tracker`, an `ExportedTracker` or an `OpenCVTracker`.

    Raises:
        CheckpointError: the path holds no tracker, or a damaged one; or it is no export, and PyTorch is missing.
        TrackerError: the installed OpenCV lacks the tracker, or a file of its networks is missing.
    """
    if is_opencv(path):
        return OpenCVTracker(str(path), files or {})
    if is_export(path):
        return ExportedTracker.read(path)
    try:
        from trackers.checkpoints.checkpoint import load_checkpoint
        from trackers.checkpoints.gate_reading import DEFAULT_READING
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} is no export, and everything else needs {error.name}, which is not installed. Copy an export from "
            f"a machine with PyTorch: python eval.py action=export checkpoint={path} format=onnx"
        ) from error
    return load_checkpoint(path, recipe, gates or DEFAULT_READING).tracker
