"""OpenCV's trackers in the online loop, so that they are scored, timed and shown like ours.

    tracker = load_tracker("opencv_mil")

Which of them are there depends on the OpenCV that is installed: the wheel opencv-python lacks CSRT and KCF, and
opencv-contrib-python has them.
"""

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from trackers.crops import CropSpec, Window
from trackers.errors import TrackerError
from trackers.rules import Answer, Box, Crop, Online, OnlineRules
from trackers.runtimes.runtime import Array, NumPyRuntime, Runtime

PREFIX = "opencv_"
RUNTIME = "opencv"
MORE = "pip uninstall opencv-python && pip install opencv-contrib-python"


class _Kind(NamedTuple):
    """One of OpenCV's trackers.

    Attributes:
        factory: class in cv2.
        files: parameters of the class that name the files of its networks.
        source: where the files come from.
    """

    factory: str
    files: tuple[str, ...] = ()
    source: str = ""


KINDS = {
    "csrt": _Kind("TrackerCSRT"),
    "kcf": _Kind("TrackerKCF"),
    "mil": _Kind("TrackerMIL"),
    "nano": _Kind(
        "TrackerNano", ("backbone", "neckhead"), "github.com/HonglinChu/SiamTrackers, NanoTrack/models/nanotrackv2"
    ),
    "vit": _Kind("TrackerVit", ("net",), "github.com/opencv/opencv_zoo, models/object_tracking_vittrack"),
}
ALL = tuple(f"{PREFIX}{kind}" for kind in KINDS)


def is_opencv(name: Any) -> bool:
    """Returns whether a value in the place of a checkpoint's path means one of OpenCV's trackers."""
    # Unlike pathlib, this function takes names that are too long.
    return isinstance(name, str) and name.startswith(PREFIX) and not os.path.exists(name)  # noqa: PTH110


def available() -> list[str]:
    """Returns the names of the trackers that the installed OpenCV has."""
    return [f"{PREFIX}{kind}" for kind, (factory, _, _) in KINDS.items() if hasattr(cv2, factory)]


@dataclass(frozen=True)
class OpenCVTracker:
    """One of OpenCV's trackers, which `trackers.online` opens like one of ours.

    Attributes:
        name: e.g. "opencv_mil".
        files: of the networks, by the names of OpenCV's parameters. `opencv_nano` and `opencv_vit` need some.

    Raises:
        TrackerError: the installed OpenCV lacks the tracker, or a file is not given or not there.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = KINDS.get(self.name.removeprefix(PREFIX))
        if kind is None or not hasattr(cv2, kind.factory):
            known = f"this OpenCV {cv2.__version__} has {', '.join(available()) or 'no tracker'}"
            more = f"; opencv-contrib-python has {', '.join(ALL)}: {MORE}" if len(available()) < len(ALL) else ""
            raise TrackerError(f"{self.name} is not there: {known}{more}")
        for parameter in kind.files:
            self._check_file(kind, parameter)

    def _check_file(self, kind: _Kind, parameter: str) -> None:
        path = self.files.get(parameter)
        if not path:
            missing = " ".join(f"opencv.{name}=FILE.onnx" for name in kind.files if not self.files.get(name))
            raise TrackerError(f"{self.name} needs the files of its networks: {missing} (from {kind.source})")
        if not Path(path).is_file():
            raise TrackerError(f"opencv.{parameter}={path} is not there; the file comes from {kind.source}")

    def open(self, runtime: str | None, device: Any, threads: int | None) -> tuple[OnlineRules, Runtime]:
        """Returns rules that give OpenCV whole pictures, and a runtime without graphs. OpenCV runs on the CPU.

        Args:
            runtime, device: have no effect.
            threads: CPU threads of OpenCV in this process; None leaves their number as it is.
        """
        if threads is not None:
            cv2.setNumThreads(threads)
        whole = CropSpec(size=256, factor=1.0)  # `OpenCVRules.crop` does not read it
        return OpenCVRules(whole, whole, Online(min_size=None, size_smoothing=0.0), self), OpenCVRuntime()

    def create(self) -> Any:
        """Returns a new tracker of OpenCV."""
        factory, names, _ = KINDS[self.name.removeprefix(PREFIX)]
        parameters = []
        if names:
            parameters.append(getattr(cv2, f"{factory}_Params")())
            for name in names:
                setattr(parameters[0], name, str(self.files[name]))
        try:
            return getattr(cv2, factory).create(*parameters)
        except cv2.error as error:
            raise TrackerError(f"{self.name} cannot be opened with {dict(self.files)}: {error.err}") from error


@dataclass(eq=False)
class _State:
    """A tracker of OpenCV, and the number of its last frame; the first frame has number 1."""

    tracker: Any
    frame: int = 1


class OpenCVRuntime(NumPyRuntime):
    """A runtime without graphs, since OpenCV's trackers run their networks themselves."""

    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        """Raises KeyError: there is no graph."""
        raise KeyError(graph)


@dataclass(frozen=True)
class OpenCVRules(OnlineRules):
    """Online rules whose crops are whole pictures, and whose state is a tracker of OpenCV.

    OpenCV counts in whole pixels and stays without an answer where it has lost the object. The box then stays where it
    is, with score 0. Only the trackers with a network have a score; the others have 1.

    Attributes:
        tracker: creates OpenCV's trackers.
    """

    tracker: OpenCVTracker

    exportable = False

    @staticmethod
    def crop(image: np.ndarray, box: Box, spec: CropSpec) -> tuple[Crop, Window]:
        """Returns the whole picture, with boxes in its pixels."""
        height, width = image.shape[:2]
        x, y, w, h = box
        nothing = np.zeros((2, 0), bool)
        return Crop(image, nothing, (x + w / 2, y + h / 2, w, h), (0, 0, width, height)), Window(0, 0, 1)

    def start(self, runtime: Any, template: Crop) -> _State:
        """Returns a tracker of OpenCV that knows the object in the first picture.

        Raises:
            TrackerError: OpenCV cannot track the box.
        """
        state, rectangle = _State(self.tracker.create()), _whole_pixels(template.target, template.pixels.shape)
        _seed(state.frame)
        try:
            state.tracker.init(_as_bgr(template.pixels), rectangle)
        except cv2.error as error:
            raise TrackerError(f"{self.tracker.name} cannot start on the box {rectangle}: {error.err}") from error
        return state

    def step(self, runtime: Any, state: _State, search: Crop) -> Answer:
        """Finds the object in the next picture."""
        state.frame += 1
        _seed(state.frame)
        found, (x, y, w, h) = state.tracker.update(_as_bgr(search.pixels))
        if not found or min(w, h) <= 0:
            return Answer(np.array(search.target), 0.0, 0.0)
        # OpenCV 5 has the method for all trackers, and it returns 0 for those without a network.
        score = float(np.clip(state.tracker.getTrackingScore(), 0, 1)) if self.tracker.files else 1.0
        return Answer(np.array((x + w / 2, y + h / 2, w, h), float), score, score)


def _seed(number: int) -> None:
    """Seeds the random numbers of OpenCV and of the C library: MIL draws from both, in each frame.

    So boxes depend neither on other objects that are tracked meanwhile nor on what ran before.
    """
    cv2.setRNGSeed(number)
    if os.name == "posix":
        ctypes.CDLL(None).srand(number)


def _as_bgr(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def _whole_pixels(target: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Returns a box cxcywh as xywh in whole pixels, at least one wide and high, inside of a picture (H, W, 3)."""
    cx, cy, w, h = target
    height, width = shape[:2]
    left, top = min(max(round(cx - w / 2), 0), width - 1), min(max(round(cy - h / 2), 0), height - 1)
    right, bottom = min(max(round(cx + w / 2), left + 1), width), min(max(round(cy + h / 2), top + 1), height)
    return left, top, right - left, bottom - top
