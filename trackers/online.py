"""Online loop of all trackers: crop around the last box, run the tracker, convert the box to pixels and clip it.

The loop needs NumPy and OpenCV alone, so it also runs on a device without PyTorch.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trackers.crops import Window
from trackers.errors import TrackerError
from trackers.presence import TRACKED, UNCALIBRATED
from trackers.rules import Answer, Box, OnlineRules
from trackers.runtimes.runtime import Runtime

MOST_THREADS = 1024  # with thousands, ONNX Runtime does not come to its end
LARGEST = 3  # width of a first box over that of its image, and height likewise


@dataclass(eq=False)
class Target:
    """One tracked object.

    Attributes:
        box: last box, xywh in pixels.
        memory: what the rules remember of the target, from `OnlineRules.start`.
        frame: number of the last frame; the first frame has number 1.
        presence: calibrated probability that the last box shows the target, in [0, 1]; 1 in the first frame.
        state: "tracked", "uncertain" or "lost", by the thresholds of `Presence`. It only informs: a lost target is
            searched in the next frame like any other.
        evidence: number that the presence is computed from, see `Presence`; NaN in the first frame.
    """

    box: Box
    memory: Any
    frame: int = 1
    presence: float = 1.0
    state: str = TRACKED
    evidence: float = math.nan


class Openable(Protocol):
    """A tracker that can be used in the loop: a `trackers.base.Tracker`, or an exported tracker."""

    def open(self, runtime: str | None, device: Any, threads: int | None) -> tuple[OnlineRules, Runtime]:
        """Returns the online rules, and what runs the network for them."""


class Lockstep:
    """Online loop of several videos, with one target in each video and one frame of each video per call.

    A tracker with `lockstep` finds all targets in one batched forward; other trackers find one target after the other.
    The boxes are those of separate tracking, except for float rounding.

        loop = Lockstep(tracker)
        targets = [loop.begin(video[0], box) for video, box in zip(videos, boxes)]
        results = loop.advance(targets, [video[1] for video in videos])

    New targets may begin between two calls of `advance`, and finished targets are left out of the next call. Images are
    RGB, (H, W, 3) uint8 arrays or PIL images, of any sizes; boxes are xywh in pixels.

    Args:
        tracker: a tracker, which is put into evaluation mode on the device, or an exported tracker.
        device: device on which the network runs.
        runtime: what runs the network, see `trackers.runtimes.choices`; None for the tracker's own: PyTorch, or the
            runtime that an export is made for.
        threads: CPU threads of a runtime without PyTorch; None leaves the number to the runtime.

    Attributes:
        rules: online rules of the tracker.
        calibration: from the evidence of a frame to the presence of the target.
        runtime: what runs the network.

    Raises:
        TrackerError: the runtime is not known, not installed, or does not run on the device; or `threads` is
            not from 1 to 1024.
    """

    def __init__(self, tracker: Openable, device: Any = "cpu", runtime: str | None = None, threads: int | None = None):
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
            raise TrackerError(
                f"threads={threads} must be at least 1 and at most {MOST_THREADS}, or None, which leaves the number to "
                "the runtime"
            )
        self.rules, self.runtime = tracker.open(runtime, device, threads)
        self.calibration = self.rules.online.presence or UNCALIBRATED

    def begin(self, image: Any, box: Box) -> Target:
        """Returns a target to track, from the first image and the box in it.

        Raises:
            TrackerError: the image is empty or not RGB uint8; the box is not four finite numbers, has no area, lies
                outside of the image, or is far larger than the image.
        """
        pixels = _as_array(image)
        box = _check_box(box, pixels.shape)
        template, _ = self.rules.crop(pixels, box, self.rules.template)
        return Target(box, self.rules.start(self.runtime, template))

    def advance(self, targets: Sequence[Target], images: Sequence[Any]) -> list[tuple[Box, float]]:
        """Finds each target in its next image, and updates what is known of the targets.

        Returns:
            For each target its box, xywh in pixels, and a score in [0, 1].

        Raises:
            TrackerError: the numbers of targets and images differ, or an image is empty or not RGB uint8. No target is
                changed. Or the tracker finds a box or a score that is not finite.
        """
        if len(targets) != len(images):
            raise TrackerError(f"{len(targets)} targets need one image each, but there are {len(images)} images")
        if not targets:
            return []
        rules, pictures = self.rules, [_as_array(image) for image in images]
        memories = [target.memory for target in targets]
        crops = [rules.crop(pixels, t.box, rules.search) for pixels, t in zip(pictures, targets, strict=True)]
        searches, windows = zip(*crops, strict=True)
        found = rules.steps(self.runtime, memories, searches)
        for target, answer in zip(targets, found, strict=True):
            check_answer(answer, f"frame {target.frame + 1}")  # before clipping, which would turn NaN into numbers
        results = []
        for target, pixels, window, answer in zip(targets, pictures, windows, found, strict=True):
            target.frame += 1
            target.box = self._box_in_image(answer.box, window, target.box, pixels.shape)
            target.evidence = answer.evidence
            target.presence = self.calibration.probability(answer.evidence)
            target.state = self.calibration.state(target.presence)
            rules.observe(self.runtime, target.memory, pixels, target.box, answer.score)
            results.append((target.box, answer.score))
        return results

    def _box_in_image(self, relative: np.ndarray, window: Window, old: Box, shape: tuple[int, ...]) -> Box:
        """Returns the reported box, xywh in pixels, smoothed and clipped.

        Args:
            relative: result of the tracker, cxcywh (4,) in units of the crop's side.
            window: window of the crop.
            old: box of the previous frame, xywh in pixels.
            shape: (H, W, 3) of the picture.
        """
        settings = self.rules.online
        cx, cy, w, h = window.absolute(relative)
        share = settings.size_smoothing
        w, h = share * old[2] + (1 - share) * w, share * old[3] + (1 - share) * h
        box = cx - w / 2, cy - h / 2, w, h
        return box if settings.min_size is None else clip_box(box, shape[1], shape[0], settings.min_size)


class OnlineTracker:
    """Online tracker of one object in one video.

        tracker = load_tracker("child.safetensors")
        tracker.init(first_image, (x, y, w, h))
        for image in video:
            box, score = tracker.update(image)
            if tracker.state == "lost":
                ...

    Images are RGB, (H, W, 3) uint8 arrays or PIL images; boxes are xywh in pixels.

    Args:
        tracker, device, runtime, threads: see `Lockstep`.

    Attributes:
        tracker: the tracker.
        loop: online loop, which can also track several objects at once.
        target: the object, with its last box, presence and state; None before `init`.
    """

    def __init__(self, tracker: Openable, device: Any = "cpu", runtime: str | None = None, threads: int | None = None):
        self.loop = Lockstep(tracker, device, runtime, threads)
        self.tracker = tracker
        self.target: Target | None = None

    @property
    def box(self) -> Box | None:
        """Last box; None before `init`."""
        return None if self.target is None else self.target.box

    @property
    def presence(self) -> float | None:
        """Calibrated probability that the last box shows the object, in [0, 1]; None before `init`."""
        return None if self.target is None else self.target.presence

    @property
    def state(self) -> str | None:
        """Whether the object is "tracked", "uncertain" or "lost" in the last frame; None before `init`."""
        return None if self.target is None else self.target.state

    def init(self, image: Any, box: Box) -> None:
        """Starts tracking the object in a box of the first image.

        Raises:
            TrackerError: the image is empty or not RGB uint8; the box is not four finite numbers, has no area, lies
                outside of the image, or is far larger than the image.
        """
        self.target = self.loop.begin(image, box)

    def update(self, image: Any) -> tuple[Box, float]:
        """Returns the object's box in the next image, and a score in [0, 1].

        Raises:
            RuntimeError: `init` was not called.
            TrackerError: the image is empty or not RGB uint8. The next call continues as if this one had not happened.
                Or the tracker finds a box or a score that is not finite.
        """
        if self.target is None:
            raise RuntimeError("call init(image, box) with the first frame before update(image)")
        [found] = self.loop.advance([self.target], [image])
        return found


def check_answer(answer: Answer, where: str) -> None:
    """Checks what `OnlineRules.step` returns.

    Args:
        answer: of one frame.
        where: the frame, for the message.

    Raises:
        TrackerError: the box, the score or the evidence is not finite.
    """
    box = np.asarray(answer.box).tolist()
    if not np.isfinite([*box, answer.score, answer.evidence]).all():
        raise TrackerError(
            f"{where}: the tracker finds the box {box} (cxcywh in sides of the crop) with score {answer.score}. Its "
            "weights are probably not finite, because a training diverged or a file is damaged; use another checkpoint"
        )


def clip_box(box: Box, width: int, height: int, margin: float) -> Box:
    """Clips an xywh box in pixels to the picture. The result is at least `margin` pixels wide and high."""
    x, y, w, h = box
    x1, x2 = min(max(0.0, x), width - margin), min(max(margin, x + w), width)
    y1, y2 = min(max(0.0, y), height - margin), min(max(margin, y + h), height)
    return x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)


def _as_array(image: Any) -> np.ndarray:
    """Returns an image as (H, W, 3) uint8; raises TrackerError for other shapes, types and colours."""
    if image is None:
        raise TrackerError(
            "there is no image (None), which is what cv2 returns for a file or frame that it cannot read"
        )
    # PIL's pictures of three channels that are not red, green and blue look like RGB when they are arrays.
    mode = getattr(image, "mode", None)
    if isinstance(mode, str) and mode != "RGB":
        raise TrackerError(f"an image must be RGB, not {mode}; convert it with image.convert('RGB')")
    try:
        pixels = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrackerError(
            f"an image must be an RGB array or a PIL image, not {type(image).__name__}: {error}"
        ) from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        what = f"{pixels.dtype} of shape {pixels.shape}" if pixels.ndim else type(image).__name__
        raise TrackerError(
            f"an image must be RGB uint8 of shape (height, width, 3), not {what}. "
            "Convert with cv2.cvtColor(image, cv2.COLOR_BGR2RGB) or PIL's image.convert('RGB')"
        )
    if not pixels.size:
        raise TrackerError(f"an image must have pixels, and this one has shape {pixels.shape}; read the frame again")
    return pixels


def _check_box(box: Any, shape: tuple[int, ...]) -> Box:
    """Returns a box as floats; raises TrackerError if it cannot be tracked in a picture of shape (H, W, 3)."""
    try:
        numbers = np.asarray(box.detach() if hasattr(box, "detach") else box)  # a tensor may need a gradient
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrackerError(
            f"a box must be four numbers (x, y, width, height), not {_in_short(box)}: {error}"
        ) from error
    if numbers.size != 4 or max(numbers.shape) != 4 or numbers.dtype.kind not in "iuf":
        raise TrackerError(f"a box must be four numbers (x, y, width, height) in pixels, not {_in_short(box)}")
    x, y, w, h = values = tuple(float(v) for v in numbers.flat)
    if not np.isfinite(values).all() or min(w, h) <= 0 or w * h == 0:
        raise TrackerError(f"a box must be (x, y, width, height) in pixels with a positive size, not {values}")
    height, width = shape[:2]
    place = f"the image, which has {width} x {height} pixels (width x height)"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise TrackerError(
            f"the box {values} lies outside of {place}; pass (x, y, width, height) of a box that overlaps the image"
        )
    # The memory of a crop grows with the box, and no object is larger than what shows a part of it.
    if w > LARGEST * width or h > LARGEST * height:
        raise TrackerError(
            f"the box {values} is more than {LARGEST} times as large as {place}; pass a box in its pixels"
        )
    return x, y, w, h


def _in_short(value: Any) -> str:
    """Returns what a value looks like, in one line of a message."""
    return " ".join(reprlib.repr(value).split())
