"""Trackers without a checkpoint: exports and OpenCV's. Loading them imports no PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass

from trackers.exported import ExportedTracker
from trackers.online import Openable
from trackers.opencv import OpenCVTracker


@dataclass(frozen=True)
class LoadedTracker:
    """A tracker, in the place of a `Checkpoint`."""

    tracker: Openable


def load_opencv(name: str, files: Mapping[str, str]) -> LoadedTracker:
    """Returns one of OpenCV's trackers, see `OpenCVTracker`."""
    return LoadedTracker(OpenCVTracker(name, files))


def load_export(folder: str) -> LoadedTracker:
    """Returns the tracker in the folder of an export."""
    return LoadedTracker(ExportedTracker.read(folder))
