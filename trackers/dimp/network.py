"""Network of DiMP: a ResNet, a classifier that learns a filter for each target, and a box regressor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pruning.groups import Group
from trackers.dimp.classifier import Classifier
from trackers.dimp.refinement import refine
from trackers.dimp.regressor import BoxRegressor, Level, Modulation
from trackers.layers.backbones import ResNet, SmallResNet


class CropFeatures(NamedTuple):
    """Features of N crops.

    Attributes:
        maps: outputs of the backbone's stages that the box regressor reads, (N, C, h, w) each.
        features: the classifier's features, (N, D, h, w).
    """

    maps: list[Tensor]
    features: Tensor


class DiMPNetwork(nn.Module):
    """Network from crops to boxes. In stacks of maps, frames are dimension 0 and sequences dimension 1.

    Args:
        backbone: arguments of `ResNet`, or of `SmallResNet` if "stem" is among them.
        classifier: arguments of `Classifier` without `inputs` and `stride`. "optimiser" is a function that returns the
            optimiser for `stride`, pixels per cell, and `sigma`, standard deviation of labels in cells.
        box_head: arguments of `BoxRegressor`. "levels" is a list of the arguments of `Level`, one for each of the last
            stages of the backbone.
        refinement: arguments of `refine`.
        label_sigma: standard deviation of labels in pixels.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        classifier: Mapping[str, Any],
        box_head: Mapping[str, Any],
        refinement: Mapping[str, Any],
        label_sigma: float,
    ):
        super().__init__()
        self.backbone = SmallResNet(**backbone) if "stem" in backbone else ResNet(**backbone)
        stride = self.backbone.stride
        optimiser = classifier["optimiser"](stride=stride, sigma=label_sigma / stride)
        self.classifier = Classifier(self.backbone.width, stride=stride, **dict(classifier, optimiser=optimiser))
        settings: dict[str, Any] = {**box_head, "levels": [Level(**level) for level in box_head["levels"]]}
        self.box_head = BoxRegressor(**settings)
        self.refinement = dict(refinement)

    def extract(self, crops: Tensor) -> CropFeatures:
        """Returns the features of normalised crops (N, 3, S, S)."""
        maps = self.backbone.stage_maps(crops)[-len(self.box_head.levels) :]
        return CropFeatures(maps, self.classifier.features(maps[-1]))

    def forward(
        self,
        search: Tensor,
        boxes: Tensor,
        template: Tensor | None = None,
        template_box: Tensor | None = None,
        filter: Tensor | None = None,
        modulation: Modulation | None = None,
    ) -> dict[str, Tensor]:
        """Learns filters from templates and applies them to search crops, or runs one frame with a learned filter.

        Args:
            search: normalised crops (B, S, 3, H, W).
            boxes: boxes to be rated or refined, xywh in pixels of the crop, (B, S, K, 4).
            template: normalised crops (B, T, 3, H, W); the box regressor reads the first of each sequence.
            template_box: xywh in pixels of the crop, (B, T, 4).
            filter, modulation: filter (1, D, k, k) and modulation of one sequence, if `template` is None.

        Returns:
            With templates: "scores" (iterates, S, B, F, F) of the initial filter and of the filter after every
            optimiser step, and "boxes" (S, B, K), ratings of the boxes. Without templates: "scores" (1, S, B, F, F),
            "refined" (K, 4), refined boxes, and "boxes" (K,), their ratings.
        """
        count = search.shape[1]
        if template is None:
            assert filter is not None
            assert modulation is not None
            found = self.extract(search[0])
            refined, rated = self.refine(found, modulation, boxes[0, 0])
            scores = self.classifier.scores(found.features[:, None], filter)
            return {"scores": scores[None], "refined": refined, "boxes": rated}
        assert template_box is not None
        template_box = template_box.transpose(0, 1)
        known = self.extract(template.transpose(0, 1).flatten(0, 1))
        found = self.extract(search.transpose(0, 1).flatten(0, 1))
        filters = self.classifier.learn(known.features.unflatten(0, (template.shape[1], -1)), template_box)
        features = found.features.unflatten(0, (count, -1))
        scores = torch.stack([self.classifier.scores(features, f) for f in filters])
        firsts = [maps[: len(template)] for maps in known.maps]
        modulation = self.box_head.modulation(firsts, template_box[0], known.features[: len(template)]).repeat(count)
        maps, boxes = self.box_head.features(found.maps), boxes.transpose(0, 1).flatten(0, 1)
        rated = self.box_head.scores(maps, modulation, boxes, found.features)
        return {"scores": scores, "boxes": rated.unflatten(0, (count, -1))}

    def refine(self, found: CropFeatures, modulation: Modulation, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns refined boxes (K, 4), xywh in pixels of one crop, and their ratings (K,) before the last step."""
        head, maps = self.box_head, self.box_head.features(found.maps)
        boxes, ratings = refine(head, maps, modulation, boxes[None], **self.refinement, embedding=found.features)
        return boxes[0], ratings[0]

    def groups(self) -> list[Group]:
        """Returns the groups of backbone, classifier and box head. Groups of streams also cut inputs of the heads."""
        groups = {g.name: g.with_prefix("backbone.") for g in self.backbone.groups()}
        stages = self.backbone.stage_names
        readers = {stages[-1]: [replace(s, path=f"classifier.{s.path}") for s in self.classifier.input_slices()]}
        for i, name in enumerate(stages[-len(self.box_head.levels) :]):
            slices = self.box_head.input_slices(i)
            readers.setdefault(name, []).extend(replace(s, path=f"box_head.{s.path}") for s in slices)
        for name, slices in readers.items():
            groups[name] = replace(groups[name], slices=(*groups[name].slices, *slices))
        heads = [g.with_prefix("classifier.") for g in self.classifier.groups()]
        return [*groups.values(), *heads, *(g.with_prefix("box_head.") for g in self.box_head.groups())]
