"""Online rules of DiMP: a filter that is learned and updated from a memory of samples, and refined boxes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackers.dimp.first_frame import FirstFrame, dropout_factors, first_frame_samples, shifted_boxes
from trackers.dimp.localisation import HARD_NEGATIVE, NORMAL, NOT_FOUND, Flag, Thresholds, keep_inside, localise
from trackers.dimp.memory import SampleMemory
from trackers.dimp.random_numbers import UniformNumbers
from trackers.rules import Answer, Crop, Online, OnlineRules
from trackers.runtimes.runtime import Array, Runtime

FILTER_UPDATES = ("update", "hard_negative")  # graphs that improve the filter, and keys of `Learning.iterations`


@dataclass(frozen=True)
class Learning(Online):
    """Settings of DiMP's online loop.

    Attributes:
        first: samples that are made of the first frame.
        iterations: number of optimiser steps on the first frame ("first"), at an update ("update") and at a hard
            negative ("hard_negative").
        update_interval: frames between two updates of the filter.
        memory: number of samples in the memory.
        rate: weight of a new sample in the memory.
        hard_negative_rate: weight of a new sample from a frame with a hard negative.
        first_share: smallest total weight of the first frame's samples.
        thresholds: thresholds on the score map.
        softmax: whether a softmax turns scores into a distribution over cells (PrDiMP).
        boxes: number of random boxes that are refined besides the box of the last size.
        centre_jitter, size_jitter: twice the largest displacement of the random boxes' centre and sides, in mean sides.
        best: number of refined boxes with the highest ratings whose mean is the result.
        max_aspect: largest ratio of a refined box's sides; other boxes are dropped.
    """

    first: FirstFrame
    iterations: Mapping[str, int]
    update_interval: int
    memory: int
    rate: float
    hard_negative_rate: float
    first_share: float
    thresholds: Thresholds
    softmax: bool
    boxes: int
    centre_jitter: float
    size_jitter: float
    best: int
    max_aspect: float


@dataclass(eq=False)
class OnlineState:
    """Tracking state of a target.

    Attributes:
        filter: array (1, D, k, k) of the runtime.
        memory: samples from which the filter learns.
        reference: what refinement must know of the target, arrays of the runtime by their names in the graph "refine".
        uniform: source of random numbers with a fixed seed.
        frame: number of frames since the first one.
        flag: result of the localisation in the last frame.
    """

    filter: Array
    memory: SampleMemory
    reference: dict[str, Array]
    uniform: UniformNumbers
    frame: int = 0
    flag: Flag = NORMAL


@dataclass(frozen=True)
class DiMPRules(OnlineRules):
    """Online rules of DiMP. Boxes are xywh in pixels of the search crop, float32.

    The graphs are "first", which learns a filter from samples of the first frame; "search", which applies the filter;
    "refine", which refines boxes; and "update" and "hard_negative", which improve the filter, if they have steps.

    Attributes:
        compat: "reference" shifts refined boxes by half a crop pixel, as the original does; "exact" does not.
        stride: pixels per cell of the score map.
        channels: channels D of the features.
        correlation: whether refinement reads the features.
    """

    online: Learning
    compat: str
    stride: int
    channels: int
    correlation: bool

    def start(self, runtime: Runtime, template: Crop) -> OnlineState:
        """Learns the first filter from augmented copies of the first frame.

        Args:
            runtime: runs the network.
            template: the first frame's crop, larger than a search crop and with the same centre.
        """
        uniform, settings, side = self.random_numbers(), self.online.first, len(template.pixels)
        samples, shifts = first_frame_samples(template.pixels.astype(np.float32), self.search.size, uniform, settings)
        cx, cy, w, h = (v * side for v in template.target)
        margin = (side - self.search.size) / 2
        box = np.array([cx - w / 2 - margin, cy - h / 2 - margin, w, h], np.float32)
        inputs = {"pixels": samples, "boxes": shifted_boxes(box, shifts, settings)}
        if settings.copies:
            inputs["factors"] = dropout_factors(self.channels, uniform, settings)
        found = runtime.run("first", **inputs)
        features, filter = found.pop("features"), found.pop("filter")
        memory = SampleMemory(runtime, features, inputs["boxes"], self.online.memory, self.online.first_share)
        return OnlineState(filter, memory, found, uniform)

    def step(self, runtime: Runtime, state: OnlineState, search: Crop) -> Answer:
        """Finds the target in a search crop, and updates memory and filter.

        Returns:
            The box, the highest score in [0, 1], and as evidence the same score without bounds. The box is the last one
            if the target is not found.
        """
        size, stride = self.search.size, self.stride
        state.frame += 1
        maps = runtime.run("search", pixels=search.pixels[None], filter=state.filter)
        scores, features = runtime.numpy(maps.pop("scores")), maps.pop("features")
        cx, cy, w, h = (v * size for v in search.target)
        last = ((cy - size / 2) / stride, (cx - size / 2) / stride)
        found = localise(scores, (h / stride, w / stride), last, self.online.thresholds)
        state.flag, score = found.flag, min(max(found.score, 0.0), 1.0)
        if state.flag == NOT_FOUND:
            return Answer(np.array(search.target), score, found.score)
        y, x = (size / 2 + stride * cells for cells in found.displacement)
        x, y = keep_inside((x, y), (w, h), [size * v for v in search.picture])
        if self.correlation:
            maps["features"] = features
        box = self.refined(runtime, state, maps, np.array([x - w / 2, y - h / 2, w, h], np.float32))
        if state.flag in (NORMAL, HARD_NEGATIVE):
            self._learn(runtime, state, features, box)
        return Answer(np.concatenate([box[:2] + box[2:] / 2, box[2:]]) / size, score, found.score)

    @staticmethod
    def random_numbers() -> UniformNumbers:
        """Returns the source of a new target's random numbers."""
        return UniformNumbers(seed=0)

    def refined(self, runtime: Runtime, state: OnlineState, maps: Mapping[str, Array], box: np.ndarray) -> np.ndarray:
        """Refines a box (4,) and random boxes around it; returns the mean of the best boxes, (4,).

        Args:
            runtime: runs the network.
            state: the target's state.
            maps: arrays of the crop that the graph "refine" reads, by name.
            box: xywh in pixels of the crop, (4,) float32.
        """
        settings, starts = self.online, self._starts(box, state.uniform(self.online.boxes, 4))
        found = runtime.run("refine", starts=starts, **maps, **state.reference)
        boxes, ratings = runtime.numpy(found["boxes"]).copy(), runtime.numpy(found["ratings"])
        boxes[:, 2:] = boxes[:, 2:].clip(1)
        with np.errstate(invalid="ignore"):
            aspect = boxes[:, 2] / boxes[:, 3]
        fits = (aspect < settings.max_aspect) & (aspect > 1 / settings.max_aspect)
        if not (np.isfinite(boxes).all(1) & np.isfinite(ratings)).any():
            return np.full_like(box, np.nan)  # the online loop tells it; the coarse box would hide it
        if not fits.any():
            return box
        boxes, ratings = boxes[fits], ratings[fits]
        mean = boxes[np.argsort(-ratings, kind="stable")[: settings.best]].mean(0)
        if self.compat == "reference":
            mean[:2] += 0.5
        return mean

    def _starts(self, box: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Returns a box (4,) and boxes around it for random numbers (K, 4), (1 + K, 4)."""
        noise = (numbers - 0.5) * np.sqrt(box[2:].prod())
        centre = box[:2] + box[2:] / 2 + self.online.centre_jitter * noise[:, :2]
        extent = (box[2:] + self.online.size_jitter * noise[:, 2:]).clip(box[2:].min() / 3)
        return np.concatenate([box[None], np.concatenate([centre - extent / 2, extent], 1)])

    def _learn(self, runtime: Runtime, state: OnlineState, features: Array, box: np.ndarray) -> None:
        """Adds a sample to the memory, and updates the filter if an update is due or there is a hard negative."""
        settings, memory, hard = self.online, state.memory, state.flag == HARD_NEGATIVE
        memory.add(features, box, settings.hard_negative_rate if hard else settings.rate)
        due = state.frame % settings.update_interval == 0
        graph = "hard_negative" if hard else "update"
        if (hard or due) and settings.iterations[graph]:
            samples: dict[str, Any] = {
                "features": memory.features,
                "boxes": memory.boxes,
                "weights": memory.weights,
            }
            state.filter = runtime.run(graph, filter=state.filter, **samples)["new_filter"]
