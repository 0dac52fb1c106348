"""Network of DiMP: a CNN, a classifier that learns a filter for each target, and a box regressor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.dimp.classifier import Classifier
from trackers.dimp.refinement import refine
from trackers.dimp.regressor import BoxRegressor, Level, Modulation
from trackers.errors import TrackerError
from trackers.layers.backbone_choice import Backbone, build_backbone
from trackers.layers.stage_readers import groups_with_readers


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
        backbone, stride: see `build_backbone`.
        classifier: arguments of `Classifier` without `inputs` and `stride`. "optimiser" is a function that returns the
            optimiser for `stride`, pixels per cell, and `sigma`, standard deviation of labels in cells.
        box_head: arguments of `BoxRegressor`. "levels" is a list of the arguments of `Level`, one for each of the last
            maps of the backbone, which also gives their channels and strides.
        refinement: arguments of `refine`.
        label_sigma: standard deviation of labels in pixels.
    """

    def __init__(
        self,
        backbone: str | Mapping[str, Any],
        classifier: Mapping[str, Any],
        box_head: Mapping[str, Any],
        refinement: Mapping[str, Any],
        label_sigma: float,
        stride: int | None = None,
    ):
        super().__init__()
        self.backbone = build_backbone(backbone, stride, maps=len(box_head["levels"]))
        stride = self.backbone.stride
        optimiser = classifier["optimiser"](stride=stride, sigma=label_sigma / stride)
        self.classifier = Classifier(self.backbone.width, stride=stride, **dict(classifier, optimiser=optimiser))
        settings: dict[str, Any] = {**box_head, "levels": _levels(box_head["levels"], self.backbone)}
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
        readers = [partial(self._readers, i) for i in range(len(self.box_head.levels))]
        groups = groups_with_readers(self.backbone, readers)
        heads = [g.with_prefix("classifier.") for g in self.classifier.groups()]
        return [*groups, *heads, *(g.with_prefix("box_head.") for g in self.box_head.groups())]

    def _readers(self, level: int, gated: bool) -> list[Slice]:
        """Returns the slices of the heads that share the channels of a level's map; see `groups_with_readers`."""
        slices = [replace(s, path=f"box_head.{s.path}") for s in self.box_head.input_slices(level, gated)]
        if level < len(self.box_head.levels) - 1:
            return slices
        return [*(replace(s, path=f"classifier.{s.path}") for s in self.classifier.input_slices(gated)), *slices]


def _levels(settings: Sequence[Mapping[str, Any]], backbone: Backbone) -> list[Level]:
    """Returns the settings of the maps that boxes are read from.

    Args:
        settings: arguments of `Level` for each of the last maps. Channels and stride may be missing.
        backbone: the backbone that returns the maps.

    Raises:
        TrackerError: the backbone has fewer maps, or a map has other channels or another stride than a setting says.
    """
    maps = list(zip(backbone.widths, backbone.strides, strict=True))
    if not 0 < len(settings) <= len(maps):
        raise TrackerError(
            f"tracker.box_head.levels has {len(settings)} entries, but the backbone has {len(maps)} maps, of the "
            f"strides {[*backbone.strides]}; write one entry for each of its last maps"
        )
    levels = []
    for i, (level, (channels, stride)) in enumerate(zip(settings, maps[-len(settings) :], strict=True)):
        for key, own in (("channels", channels), ("stride", stride)):
            if level.get(key, own) != own:
                raise TrackerError(
                    f"tracker.box_head.levels[{i}].{key}={level[key]}, but the map of the backbone has {own}; "
                    f"leave {key} out"
                )
        levels.append(Level(**{"channels": channels, "stride": stride, **level}))
    return levels
