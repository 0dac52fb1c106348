"""DiMP (Bhat et al., ICCV 2019), PrDiMP (Danelljan et al., CVPR 2020) and SuperDiMP as one Lightning module."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.groups import Group
from trackers.base import Batch, Crop, Recipe, Tracker
from trackers.dimp.crop_spec import DiMPCropSpec
from trackers.dimp.following import Learning, OnlineState
from trackers.dimp.labels import gaussian_labels, label_density
from trackers.dimp.losses import kl_grid, kl_regression, lb_hinge
from trackers.dimp.network import DiMPNetwork
from trackers.dimp.proposals import jittered_proposals, sample_proposals


class DiMP(Tracker):
    """A classifier that is learned for each target, and a box regressor that climbs to the best box.

    Args:
        template, search: the crops; `count` is the number of frames in a sample that the classifier learns from, and of
            those that it is tested on.
        backbone, classifier, box_head, refinement: of `DiMPNetwork`.
        label_width: standard deviation of the target's label, in mean sides of the box.
        losses: "classifier": hinge (DiMP, SuperDiMP) | kl (PrDiMP); "boxes": kl (SuperDiMP, PrDiMP) | iou (DiMP).
        proposals: "count" of boxes that the regressor rates, and their "sigmas".
        weights: of the losses: "boxes"; "first", "last" and "steps" for the score maps of the filter first made, of the
            final one, and of all others together.
        frozen_stages: the backbone's stem and so many stages keep their pretrained weights and statistics; None for
            none.
        compat: "reference": found boxes lie half a crop pixel off, as in the original; "exact": they do not.
        recipe: how it is trained.
        online: the online loop's settings.
    """

    family = "CNN"
    distilled = ("classifier.features",)

    def __init__(
        self,
        template: DiMPCropSpec,
        search: DiMPCropSpec,
        backbone: Mapping[str, Any],
        classifier: Mapping[str, Any],
        box_head: Mapping[str, Any],
        refinement: Mapping[str, Any],
        label_width: float,
        losses: Mapping[str, str],
        proposals: Mapping[str, Any],
        weights: Mapping[str, float],
        frozen_stages: int | None,
        compat: str,
        recipe: Recipe,
        online: Learning,
    ):
        network = DiMPNetwork(backbone, classifier, box_head, refinement, label_width * search.size / search.factor)
        super().__init__(network, template, search, recipe, online)
        for name, choices in (("classifier", ("hinge", "kl")), ("boxes", ("kl", "iou"))):
            if losses[name] not in choices:
                raise ValueError(f"losses.{name}={losses[name]} is not known; choose one of {choices}")
        self.sigma = label_width * search.size / search.factor / network.backbone.stride
        self.objectives, self.proposals, self.weights = dict(losses), dict(proposals), dict(weights)
        self.frozen_stages, self.compat = frozen_stages, compat

    # What is trained and pruned

    def departures_from_original(self) -> dict[str, bool]:
        """What lets a small network learn from nothing, and is off at full scale."""
        network = self.network
        return super().departures_from_original() | {
            "a small backbone of stride 8": network.backbone.stride == 8,
            "batch norm in front of the features' norm": network.classifier.features.norm is not None,
            "correlation maps for the box regressor": bool(network.box_head.correlation),
        }

    def groups(self) -> list[Group]:
        """See `DiMPNetwork.groups`."""
        return self.network.groups()

    def trained(self, name: str) -> bool:
        """All but the backbone's first stages."""
        return not name.startswith(self._frozen())

    def train(self, mode: bool = True) -> "DiMP":
        """Batch norms of frozen stages keep their statistics."""
        super().train(mode)
        for head in self._frozen():
            self.network.get_submodule(head.rstrip(".")).eval()
        return self

    def _frozen(self) -> tuple[str, ...]:
        if self.frozen_stages is None:
            return ()
        stages = [f"layer{i}" for i in range(1, self.frozen_stages + 1)]
        return tuple(f"backbone.{part}." for part in ("conv1", "bn1", *stages))

    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """The ResNet's, see `ResNet.pretrained`."""
        return self.network.backbone.pretrained()

    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """See `ResNet.load_pretrained`."""
        self.network.backbone.load_pretrained(weights, source)

    # Training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of the score maps of all the optimiser's steps, and of rated proposals; `total` is minimised."""
        size = self.search.size
        boxes = size * batch["search_box"]
        propose = sample_proposals if self.objectives["boxes"] == "kl" else jittered_proposals
        proposals, *about = propose(boxes, **self.proposals)
        search, template = self.normalise(batch["search"]), self.normalise(batch["template"])
        found = self.network(search, proposals, template, size * batch["template_box"])
        return self.output_losses(found, boxes, about)

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logarithms of densities, up to a constant, lose it: scores become densities, ratings are centred."""
        scores, rated = outputs["scores"], outputs["boxes"]
        if self.objectives["classifier"] == "kl":
            scores = scores.flatten(-2).softmax(-1)
        if self.objectives["boxes"] == "kl":
            rated = rated - rated.mean(-1, keepdim=True)
        return {"scores": scores, "boxes": rated}

    def output_losses(self, found: Mapping[str, Tensor], boxes: Tensor, about: Sequence[Tensor]) -> dict[str, Tensor]:
        """The losses of the network's outputs.

        Args:
            found: what it returns.
            boxes: the true ones, xywh in pixels of the crop, (B, S, 4).
            about: of the rated proposals, (B, S, M): their density and the truth's, or their overlap.
        """
        first, *steps, last = [self.score_loss(scores, boxes.transpose(0, 1)) for scores in found["scores"]]
        rated = found["boxes"].transpose(0, 1)
        if self.objectives["boxes"] == "kl":
            parts = {"boxes": kl_regression(rated, *about)}
        else:
            parts = {"boxes": F.mse_loss(rated, 2 * about[0] - 1)}
        parts |= {"first": first, "last": last, "steps": torch.stack(steps).mean()}
        parts["total"] = sum(self.weights[name] * value for name, value in parts.items())
        return parts

    def score_loss(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """The loss of score maps (S, B, F, F) against boxes (S, B, 4), xywh in pixels of the crop."""
        place = {"cells": scores.shape[-1], "stride": self.network.backbone.stride, "sigma": self.sigma}
        if self.objectives["classifier"] == "hinge":
            return lb_hinge(scores, gaussian_labels(boxes, **place))
        return kl_grid(scores, label_density(boxes, **place))

    # Tracking

    def start(self, template: Crop) -> OnlineState:
        """Learns the first filter from changed copies of the first frame."""
        return OnlineState(self.network, self.online, self.search.size, self.compat, template.to(self.device))

    def step(self, state: OnlineState, search: Crop) -> tuple[Tensor, float]:
        """See `OnlineState.step`."""
        return state.step(search.to(self.device))

    # Counting and timing

    def example_inputs(self) -> Batch:
        """A template and a search crop, with boxes in their middles."""
        return self._crops("search") | self._crops("template") | {"boxes": self._boxes(8)}

    def frame_inputs(self, network: DiMPNetwork | None = None) -> dict[str, Any]:
        """A search crop and the boxes that are refined in it; the filter was learned before."""
        network = network or self.network
        device = next(network.parameters()).device
        given = {name: tensor.to(device) for name, tensor in self._crops("template").items()}
        with torch.no_grad():
            seen = network.see(given["template"][0])
            filter = network.classifier.initialiser(seen.features[:, None], given["template_box"])
            modulation = network.box_head.modulation(seen.maps, given["template_box"][0], seen.features)
        boxes = self._boxes(1 + self.online.boxes)
        return self._crops("search") | {"filter": filter, "modulation": modulation, "boxes": boxes}

    def timed_parts(self) -> dict[str, Callable[[], Any]]:
        """Of a frame backbone, classifier and box refinement; and one update of the filter from a full memory."""
        network, given, memory = self.network, self.frame_inputs(), self.online.memory
        classifier, crop, filter, boxes = network.classifier, given["search"][0], given["filter"], given["boxes"][0, 0]
        with torch.no_grad():
            seen = network.see(crop)
        samples, known = seen.features[:, None].repeat(memory, 1, 1, 1, 1), self._boxes(1)[0].repeat(memory, 1, 1)
        steps = self.online.iterations["update"]
        return {
            "backbone": lambda: network.backbone.stage_maps(crop),
            "classifier": lambda: classifier.scores(classifier.features(seen.maps[-1])[:, None], filter),
            "box refinement": lambda: network.refine(seen, given["modulation"], boxes),
            f"filter update ({steps} steps, {memory} samples)": lambda: classifier.optimiser(
                filter, samples, known, steps
            ),
        }

    def _crops(self, role: str) -> Batch:
        size = self.search.size
        crops = {role: torch.randn(1, 1, 3, size, size, device=self.device)}
        return crops | ({"template_box": self._boxes(1)[0]} if role == "template" else {})

    def _boxes(self, count: int) -> Tensor:
        """About as large as targets are, near the middle: (1, 1, count, 4)."""
        size, side = self.search.size, self.search.size / self.search.factor
        extent = side * torch.rand(count, 2).add(0.5)
        centre = size / 2 + side * (torch.rand(count, 2) - 0.5)
        return torch.cat([centre - extent / 2, extent], 1)[None, None].to(self.device)
