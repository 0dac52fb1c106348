"""Comparison of an exported tracker with the tracker that it was made of, on the same frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.export.conversion.watched_runtimes import ComparingRuntime, OpenedTracker
from evaluation.export.rendered_video import RenderedVideo
from trackers.exported import ExportedTracker
from trackers.online import Lockstep, Openable
from trackers.rules import Box, OnlineRules
from trackers.runtimes.runtime import Runtime

PROTOCOL = (
    "outputs: largest difference of a graph's outputs from PyTorch's, over the largest of PyTorch's values, with the "
    "same inputs. boxes: difference from PyTorch's box with the crops of PyTorch's track and own templates, filters "
    "and memory; pixels are the largest of x, y, width and height. free: both track on their own."
)


@dataclass(frozen=True)
class Tolerance:
    """What a precision may change.

    Attributes:
        outputs: largest relative difference of outputs; None for any.
        pixels: largest difference of boxes in pixels; None for any.
        overlap: lowest mean overlap of boxes.
    """

    outputs: float | None
    pixels: float | None
    overlap: float


# With fewer bits, the highest of two similar responses may be another one, so single boxes and outputs may differ.
TOLERANCES = {
    "fp32": Tolerance(1e-3, 0.1, 0.99),
    "fp16": Tolerance(None, None, 0.95),
    "bf16": Tolerance(None, None, 0.9),
    "int8": Tolerance(None, None, 0.7),
}


@dataclass(frozen=True)
class Parity:
    """Differences between an export and PyTorch.

    Attributes:
        frames: number of frames of the track.
        outputs: largest relative difference of each output, by graph and output.
        pixels: largest difference of a box with the same crops, in pixels.
        overlap: mean overlap (IoU) of boxes with the same crops.
        free_pixels, free_overlap: the same of two tracks, each with its own crops.
    """

    frames: int
    outputs: Mapping[str, Mapping[str, float]]
    pixels: float
    overlap: float
    free_pixels: float
    free_overlap: float

    def fault(self, tolerance: Tolerance) -> str:
        """Returns what is beyond a tolerance, in words; "" if nothing is."""
        for graph, found in self.outputs.items():
            for name, value in found.items():
                if tolerance.outputs is not None and not value <= tolerance.outputs:  # also for NaN
                    return f"output {name} of graph {graph} differs by {value:.2g}, {tolerance.outputs:g} is allowed"
        if tolerance.pixels is not None and not self.pixels <= tolerance.pixels:
            return f"a box differs by {self.pixels:.2g} pixels, and {tolerance.pixels:g} are allowed"
        if not self.overlap >= tolerance.overlap:
            return f"boxes overlap by {self.overlap:.2f} on average, and {tolerance.overlap:g} is the least"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the differences as plain data, with what they mean."""
        boxes = {"largest_pixels": self.pixels, "mean_overlap": self.overlap}
        free = {"largest_pixels": self.free_pixels, "mean_overlap": self.free_overlap}
        outputs = {graph: dict(found) for graph, found in self.outputs.items()}
        return {"protocol": PROTOCOL, "frames": self.frames, "outputs": outputs, "boxes": boxes, "free": free}


def compare(tracker: Openable, export: ExportedTracker, video: RenderedVideo) -> Parity:
    """Compares an export with its tracker in PyTorch.

    Args:
        tracker: the tracker, on the CPU.
        export: the export.
        video: frames and first box.
    """
    rules, eager = tracker.open("eager", "cpu", None)
    _, exported = export.open()
    both = ComparingRuntime(eager, exported)
    expected = track(rules, both, video)
    same, free = track(rules, exported, video, expected), track(rules, exported, video)
    outputs = {
        graph: {name: gap / scale if scale else gap for name, (gap, scale) in found.items()}
        for graph, found in both.outputs.items()
    }
    return Parity(len(video.frames), outputs, *_differences(expected, same), *_differences(expected, free))


def track(rules: OnlineRules, runtime: Runtime, video: RenderedVideo, fed: list[Box] | None = None) -> list[Box]:
    """Returns the boxes of all frames after the first one.

    Args:
        rules: online rules.
        runtime: runs the network.
        video: frames and first box.
        fed: boxes around which the crops of all frames but the second lie; None for the track's own.
    """
    loop = Lockstep(OpenedTracker(rules, runtime))
    target, boxes = loop.begin(video.frames[0], video.box), []
    for i, frame in enumerate(video.frames[1:]):
        if fed and i:
            target.box = fed[i - 1]
        [(box, _)] = loop.advance([target], [frame])
        boxes.append(box)
    return boxes


def _differences(ours: list[Box], theirs: list[Box]) -> tuple[float, float]:
    """Returns the largest difference of boxes in pixels, and their mean overlap."""
    a, b = np.array(ours), np.array(theirs)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    common = (high - low).clip(0).prod(1)
    overlap = common / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - common)
    return float(np.abs(a - b).max()), float(overlap.mean())
