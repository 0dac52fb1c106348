"""DiMP (Bhat et al., ICCV 2019), PrDiMP (Danelljan et al., CVPR 2020) and SuperDiMP as one Lightning module."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.groups import Group
from trackers.base import Batch, Recipe, Tracker
from trackers.dimp.crop_spec import DiMPCropSpec
from trackers.dimp.following import DiMPRules, Learning
from trackers.dimp.graphs import tracking_graphs
from trackers.dimp.labels import gaussian_labels, label_density
from trackers.dimp.losses import kl_grid, kl_regression, lb_hinge
from trackers.dimp.network import DiMPNetwork
from trackers.dimp.proposals import jittered_proposals, sample_proposals
from trackers.errors import TrackerError
from trackers.layers.backbones import ResNet
from trackers.presence import Presence
from trackers.runtimes.graph import Graph


class DiMP(Tracker):
    """Tracker of a classifier, which learns a filter for each target, and of a box regressor, which refines boxes.

    Args:
        template, search: geometry of the crops. `template.count` is the number of frames in a sample from which the
            classifier learns, `search.count` the number of frames on which it is tested.
        backbone, stride, classifier, box_head, refinement: arguments of `DiMPNetwork`.
        label_width: standard deviation of the target's label, in mean sides of the box.
        losses: loss of the "classifier": hinge (DiMP, SuperDiMP) or kl (PrDiMP); loss of "boxes": kl (SuperDiMP,
            PrDiMP) or iou (DiMP).
        proposals: "count" and "sigmas" of the boxes that the regressor rates; see `trackers.dimp.proposals`.
        weights: loss weights: "boxes"; "first", "last" and "steps" for the score maps of the initial filter, of the
            final filter, and of all filters between.
        frozen_stages: number of the backbone's stages that, with the stem, keep their pretrained weights and
            statistics; None freezes nothing.
        compat: "reference" shifts refined boxes by half a crop pixel, as the original does; "exact" does not.
        recipe: hyperparameters of the training.
        online: settings of the online loop.
    """

    family = "CNN"
    distilled = ("classifier.features",)
    smallest_batch = 2  # batch norms of the box regressor see one value of each sample
    network: DiMPNetwork
    online: Learning

    def __init__(
        self,
        template: DiMPCropSpec,
        search: DiMPCropSpec,
        backbone: str | Mapping[str, Any],
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
        stride: int | None = None,
    ):
        sigma = label_width * search.size / search.factor
        network = DiMPNetwork(backbone, classifier, box_head, refinement, sigma, stride)
        super().__init__(network, template, search, recipe, online)
        for name, choices in (("classifier", ("hinge", "kl")), ("boxes", ("kl", "iou"))):
            if losses[name] not in choices:
                raise TrackerError(f"tracker.losses.{name}={losses[name]} is not known; choose one of {choices}")
        self.sigma = sigma / network.backbone.stride
        self.objectives, self.proposals, self.weights = dict(losses), dict(proposals), dict(weights)
        self.frozen_stages, self.compat = frozen_stages, compat

    # Training and pruning

    def default_presence(self) -> Presence:
        """Returns the calibration for recipes without one: that of the tiny tracker.

        Scores that are a distribution over cells (PrDiMP) are much smaller. There, the presence is one half where the
        original calls the target not found.
        """
        if self.online.softmax:
            return Presence(half=self.online.thresholds.not_found, slope=3.96, tracked=0.798, lost=0.176)
        return Presence(half=0.481, slope=3.96, tracked=0.798, lost=0.176)

    def departures_from_original(self) -> dict[str, bool]:
        """Returns options of small networks that are trained from scratch, and whether this tracker uses them."""
        network = self.network
        return super().departures_from_original() | {
            "a backbone of stride 8 or of timm": network.backbone.stride == 8
            or not isinstance(network.backbone, ResNet),
            "batch norm in front of the features' norm": network.classifier.features.norm is not None,
            "correlation maps for the box regressor": bool(network.box_head.correlation),
        }

    def groups(self) -> list[Group]:
        """Returns the pruning groups of the network; see `DiMPNetwork.groups`."""
        return self.network.groups()

    def is_trained(self, name: str) -> bool:
        """Returns whether a parameter is trained. Parameters of frozen stages of the backbone are not trained."""
        return not name.startswith(self._frozen())

    def train(self, mode: bool = True) -> "DiMP":
        """Sets the mode; frozen stages stay in evaluation mode, so that batch norms keep their statistics."""
        super().train(mode)
        frozen = self._frozen()
        for name, module in self.network.named_modules():
            if f"{name}.".startswith(frozen):
                module.training = False
        return self

    def _frozen(self) -> tuple[str, ...]:
        """Returns the prefixes of the names of frozen parameters."""
        if self.frozen_stages is None:
            return ()
        return tuple(f"backbone.{module}." for module in self.network.backbone.stage_modules(self.frozen_stages))

    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """Returns the backbone's pretrained weights; see its method `pretrained`."""
        return self.network.backbone.pretrained()

    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads the backbone's pretrained weights; see its method `load_pretrained`."""
        self.network.backbone.load_pretrained(weights, source)

    # Training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of the score maps after each optimiser step and of the rated proposals, and "total"."""
        size = self.search.size
        boxes = size * batch["search_box"]
        propose = sample_proposals if self.objectives["boxes"] == "kl" else jittered_proposals
        proposals, *targets = propose(boxes, **self.proposals)
        search, template = self.normalise(batch["search"]), self.normalise(batch["template"])
        found = self.network(search, proposals, template, size * batch["template_box"])
        return self.output_losses(found, boxes, targets)

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns scores and ratings without the unknown constant of log-densities.

        Scores of kl losses become densities, and ratings of kl losses are centred.
        """
        scores, rated = outputs["scores"], outputs["boxes"]
        if self.objectives["classifier"] == "kl":
            scores = scores.flatten(-2).softmax(-1)
        if self.objectives["boxes"] == "kl":
            rated = rated - rated.mean(-1, keepdim=True)
        return {"scores": scores, "boxes": rated}

    def output_losses(self, found: Mapping[str, Tensor], boxes: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """Returns the losses of the network's outputs, and "total".

        Args:
            found: the outputs.
            boxes: true boxes, xywh in pixels of the crop, (B, S, 4).
            targets: tensors (B, S, M) for the rated proposals: sampling density and true density for the loss kl, the
                overlap with the true box for the loss iou.
        """
        first, *steps, last = [self.score_loss(scores, boxes.transpose(0, 1)) for scores in found["scores"]]
        rated = found["boxes"].transpose(0, 1)
        if self.objectives["boxes"] == "kl":
            parts = {"boxes": kl_regression(rated, *targets)}
        else:
            parts = {"boxes": F.mse_loss(rated, 2 * targets[0] - 1)}
        parts |= {"first": first, "last": last, "steps": torch.stack(steps).mean()}
        parts["total"] = reduce(operator.add, (self.weights[name] * value for name, value in parts.items()))
        return parts

    def score_loss(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """Returns the loss of score maps (S, B, F, F) for true boxes (S, B, 4), xywh in pixels of the crop."""
        grid: dict[str, Any] = {"cells": scores.shape[-1], "stride": self.network.backbone.stride, "sigma": self.sigma}
        if self.objectives["classifier"] == "hinge":
            return lb_hinge(scores, gaussian_labels(boxes, **grid))
        return kl_grid(scores, label_density(boxes, **grid))

    # Tracking

    def graphs(self) -> dict[str, Graph]:
        """Returns the parts of the network by name; see `trackers.dimp.graphs`."""
        # Crops of the original are not rounded.
        dtype = torch.uint8 if self.search.compat == "exact" else torch.float32
        return tracking_graphs(self.network, self.online, self.search.size, dtype)

    def rules(self) -> DiMPRules:
        """Returns the online rules."""
        network = self.network
        return DiMPRules(
            template=self.template,
            search=self.search,
            online=self.online,
            compat=self.compat,
            stride=network.backbone.stride,
            channels=network.classifier.features.conv.out_channels,
            correlation=bool(network.box_head.correlation),
        )

    # Counting and timing

    def example_inputs(self) -> Batch:
        """Returns a template and a search crop, with boxes near their centres."""
        return self._crops("search") | self._crops("template") | {"boxes": self._boxes(8)}

    def frame_inputs(self, network: DiMPNetwork | None = None) -> dict[str, Any]:
        """Returns a search crop, the boxes that are refined in it, and a filter and modulation for it."""
        network = network or self.network
        device = next(network.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in self._crops("template").items()}
        with torch.no_grad():
            extracted = network.extract(inputs["template"][0])
            filter = network.classifier.initialiser(extracted.features[:, None], inputs["template_box"])
            modulation = network.box_head.modulation(extracted.maps, inputs["template_box"][0], extracted.features)
        boxes = self._boxes(1 + self.online.boxes)
        return self._crops("search") | {"filter": filter, "modulation": modulation, "boxes": boxes}

    def timed_parts(self) -> dict[str, Callable[[], Any]]:
        """Returns functions of a frame's parts and of one filter update from a full memory."""
        network, inputs, memory = self.network, self.frame_inputs(), self.online.memory
        classifier, crop, filter = network.classifier, inputs["search"][0], inputs["filter"]
        boxes = inputs["boxes"][0, 0]
        with torch.no_grad():
            extracted = network.extract(crop)
        samples, known = extracted.features[:, None].repeat(memory, 1, 1, 1, 1), self._boxes(1)[0].repeat(memory, 1, 1)
        steps = self.online.iterations["update"]
        return {
            "backbone": lambda: network.backbone.stage_maps(crop),
            "classifier": lambda: classifier.scores(classifier.features(extracted.maps[-1])[:, None], filter),
            "box refinement": lambda: network.refine(extracted, inputs["modulation"], boxes),
            f"filter update ({steps} steps, {memory} samples)": lambda: classifier.optimiser(
                filter, samples, known, steps
            ),
        }

    def _crops(self, role: str) -> Batch:
        size = self.search.size
        crops = {role: torch.randn(1, 1, 3, size, size, device=self.device)}
        return crops | ({"template_box": self._boxes(1)[0]} if role == "template" else {})

    def _boxes(self, count: int) -> Tensor:
        """Returns boxes (1, 1, count, 4) of about a target's size near the centre of the search crop."""
        size, side = self.search.size, self.search.size / self.search.factor
        extent = side * torch.rand(count, 2).add(0.5)
        centre = size / 2 + side * (torch.rand(count, 2) - 0.5)
        return torch.cat([centre - extent / 2, extent], 1)[None, None].to(self.device)
