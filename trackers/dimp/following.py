"""Tracking state of DiMP: a filter that is learned and updated from a memory of samples, and refined boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.base import Crop, Online, Tracker
from trackers.dimp.first_frame import FirstFrame, dropout_copies, first_frame_samples, shifted_boxes
from trackers.dimp.localisation import HARD_NEGATIVE, NORMAL, NOT_FOUND, Flag, Thresholds, keep_inside, localise
from trackers.dimp.memory import SampleMemory
from trackers.dimp.network import CropFeatures, DiMPNetwork


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


class OnlineState:
    """Tracking state of a target: filter, memory and modulation. Boxes are xywh in pixels of the search crop.

    Args:
        network: the network, in evaluation mode.
        settings: settings of the online loop.
        size: side S of search crops in pixels.
        compat: "reference" or "exact", see `DiMP`.
        template: the first frame's crop, larger than a search crop and with the same centre.

    Attributes:
        flag: result of the localisation in the last frame.
    """

    def __init__(self, network: DiMPNetwork, settings: Learning, size: int, compat: str, template: Crop):
        self.network, self.settings, self.size, self.compat = network, settings, size, compat
        self.random = torch.Generator().manual_seed(0)
        self.frame, self.flag = 0, Flag.NORMAL
        patches, shifts = first_frame_samples(template.pixels.float(), size, self.uniform, settings.first)
        extracted = network.extract(Tracker.normalise(patches))
        features = torch.cat([extracted.features, dropout_copies(extracted.features[0], self.uniform, settings.first)])
        cx, cy, w, h = (v * template.pixels.shape[-1] for v in template.target)
        margin = (template.pixels.shape[-1] - size) / 2
        box = torch.tensor([cx - w / 2 - margin, cy - h / 2 - margin, w, h], device=features.device)
        boxes = shifted_boxes(box, shifts, settings.first)
        self.memory = SampleMemory(features, boxes, settings.memory, settings.first_share)
        self.filter = network.classifier.learn(features[:, None], boxes[:, None], settings.iterations["first"])[-1]
        self.modulation = network.box_head.modulation([m[:1] for m in extracted.maps], boxes[:1], features[:1])

    def step(self, search: Crop) -> tuple[Tensor, float]:
        """Finds the target in a search crop, and updates memory and filter.

        Returns:
            The box, cxcywh (4,) in units of the crop's side, and a score in [0, 1]. The box is the last one if the
            target is not found.
        """
        size, stride = self.size, self.network.backbone.stride
        self.frame += 1
        extracted = self.network.extract(Tracker.normalise(search.pixels[None]))
        scores = self.network.classifier.scores(extracted.features[:, None], self.filter)[0, 0]
        if self.settings.softmax:
            scores = scores.flatten().softmax(0).view_as(scores)
        cx, cy, w, h = (v * size for v in search.target)
        last = ((cy - size / 2) / stride, (cx - size / 2) / stride)
        found = localise(scores, (h / stride, w / stride), last, self.settings.thresholds)
        self.flag, score = found.flag, min(max(found.score, 0.0), 1.0)
        if self.flag == NOT_FOUND:
            return torch.tensor(search.target), score
        y, x = (size / 2 + stride * cells for cells in found.displacement)
        x, y = keep_inside((x, y), (w, h), [size * v for v in search.picture])
        box = self._refine(extracted, torch.tensor([x - w / 2, y - h / 2, w, h]))
        if self.flag in (NORMAL, HARD_NEGATIVE):
            self._learn(extracted.features[0], box)
        return torch.cat([box[:2] + box[2:] / 2, box[2:]]) / size, score

    def uniform(self, rows: int, columns: int) -> Tensor:
        """Returns random numbers (rows, columns) in [0, 1) from the generator of this state, which has a fixed seed."""
        return torch.rand(rows, columns, generator=self.random)

    def _refine(self, extracted: CropFeatures, box: Tensor) -> Tensor:
        """Refines a box (4,) and random boxes around it; returns the mean of the best boxes, (4,) on the CPU."""
        settings = self.settings
        noise = (self.uniform(settings.boxes, 4) - 0.5) * box[2:].prod().sqrt()
        centre = box[:2] + box[2:] / 2 + settings.centre_jitter * noise[:, :2]
        extent = (box[2:] + settings.size_jitter * noise[:, 2:]).clamp_min(box[2:].min() / 3)
        starts = torch.cat([box[None], torch.cat([centre - extent / 2, extent], 1)])
        boxes, ratings = (v.cpu() for v in self.network.refine(extracted, self.modulation, starts.to(self.filter)))
        boxes[:, 2:].clamp_(min=1)
        aspect = boxes[:, 2] / boxes[:, 3]
        fits = (aspect < settings.max_aspect) & (aspect > 1 / settings.max_aspect)
        if not (boxes.isfinite().all(1) & ratings.isfinite()).any():
            return torch.full_like(box, torch.nan)  # the online loop tells it; the coarse box would hide it
        if not fits.any():
            return box
        boxes, ratings = boxes[fits], ratings[fits]
        mean = boxes[ratings.topk(min(settings.best, len(ratings))).indices].mean(0)
        if self.compat == "reference":
            mean[:2] += 0.5
        return mean

    def _learn(self, features: Tensor, box: Tensor) -> None:
        """Adds a sample to the memory, and updates the filter if an update is due or there is a hard negative."""
        settings, hard = self.settings, self.flag == HARD_NEGATIVE
        self.memory.add(features, box.to(features), settings.hard_negative_rate if hard else settings.rate)
        due = self.frame % settings.update_interval == 0
        steps = settings.iterations["hard_negative"] if hard else settings.iterations["update"] if due else 0
        if steps:
            samples, boxes, weights = self.memory.stored()
            learned = self.network.classifier.optimiser(
                self.filter, samples[:, None], boxes[:, None], steps, weights[:, None]
            )
            self.filter = learned[-1]
