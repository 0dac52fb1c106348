"""DiMP's network: a ResNet, the classifier that learns a filter for each target, and the box regressor."""

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


class Seen(NamedTuple):
    """What the network sees in crops: the stages that boxes are read from, and the classifier's features."""

    maps: list[Tensor]  # (N, C, h, w) each
    features: Tensor  # (N, D, h, w)


class DiMPNetwork(nn.Module):
    """Everything between crops and boxes. In stacks of maps, frames are dimension 0 and sequences dimension 1.

    Args:
        backbone: arguments of `ResNet`, or of `SmallResNet` if there is a "stem" among them.
        classifier: arguments of `Classifier` without `inputs` and `stride`; its "optimiser" is called with the stride
            of the features and the width of labels.
        box_head: arguments of `BoxRegressor`; its "levels", as mappings, read the last stages of the backbone.
        refinement: arguments of `refine`: how boxes climb.
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
        levels = [Level(**level) for level in box_head["levels"]]
        self.box_head = BoxRegressor(**dict(box_head, levels=levels))
        self.refinement = dict(refinement)

    def see(self, crops: Tensor) -> Seen:
        """Crops (N, 3, S, S), normalised."""
        maps = self.backbone.stage_maps(crops)[-len(self.box_head.levels) :]
        return Seen(maps, self.classifier.features(maps[-1]))

    def forward(
        self,
        search: Tensor,
        boxes: Tensor,
        template: Tensor | None = None,
        template_box: Tensor | None = None,
        filter: Tensor | None = None,
        modulation: Modulation | None = None,
    ) -> dict[str, Tensor]:
        """What is learned from templates and found with it; or, given what was learned, all that a frame needs.

        Args:
            search: normalised crops (B, S, 3, H, W).
            boxes: to be rated or refined, xywh in pixels of the crop, (B, S, K, 4).
            template: normalised crops (B, T, 3, H, W); the box regressor looks at the first.
            template_box: xywh in pixels, (B, T, 4).
            filter, modulation: in place of templates, those learned for one sequence: (1, D, k, k), and the box head's.

        Returns:
            With templates "scores" (iterates, S, B, F, F), of the filter first made and after every step of the
            optimiser, and "boxes" (S, B, K), ratings. Else "scores" (1, S, B, F, F), "refined" (K, 4) and its "boxes"
            (K,), ratings.
        """
        count = search.shape[1]
        if template is None:
            found = self.see(search[0])
            refined, rated = self.refine(found, modulation, boxes[0, 0])
            scores = self.classifier.scores(found.features[:, None], filter)
            return {"scores": scores[None], "refined": refined, "boxes": rated}
        known, shots = template_box.transpose(0, 1), template.shape[1]
        seen = self.see(template.transpose(0, 1).flatten(0, 1))
        found = self.see(search.transpose(0, 1).flatten(0, 1))
        filters = self.classifier.learn(seen.features.unflatten(0, (shots, -1)), known)
        features = found.features.unflatten(0, (count, -1))
        scores = torch.stack([self.classifier.scores(features, f) for f in filters])
        firsts = [maps[: len(template)] for maps in seen.maps]
        modulation = self.box_head.modulation(firsts, known[0], seen.features[: len(template)]).repeat(count)
        views, asked = self.box_head.features(found.maps), boxes.transpose(0, 1).flatten(0, 1)
        rated = self.box_head.scores(views, modulation, asked, found.features)
        return {"scores": scores, "boxes": rated.unflatten(0, (count, -1))}

    def refine(self, found: Seen, modulation: Modulation, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (K, 4), xywh in pixels, after climbing in one crop, and their ratings (K,) before the last step."""
        head, views = self.box_head, self.box_head.features(found.maps)
        boxes, ratings = refine(head, views, modulation, boxes[None], **self.refinement, embedding=found.features)
        return boxes[0], ratings[0]

    def groups(self) -> list[Group]:
        """Those of backbone, classifier and box head; the backbone's streams are read by all of them."""
        groups = {g.name: g.under("backbone.") for g in self.backbone.groups()}
        stages = self.backbone.stage_names
        readers = {stages[-1]: [replace(s, path=f"classifier.{s.path}") for s in self.classifier.input_slices()]}
        for i, name in enumerate(stages[-len(self.box_head.levels) :]):
            slices = self.box_head.input_slices(i)
            readers.setdefault(name, []).extend(replace(s, path=f"box_head.{s.path}") for s in slices)
        for name, slices in readers.items():
            groups[name] = replace(groups[name], slices=(*groups[name].slices, *slices))
        heads = [g.under("classifier.") for g in self.classifier.groups()]
        return [*groups.values(), *heads, *(g.under("box_head.") for g in self.box_head.groups())]
