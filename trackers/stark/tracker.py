"""STARK (Yan et al., ICCV 2021) as a Lightning module."""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.groups import Group
from trackers.base import Batch, Recipe, Tracker
from trackers.boxes import xywh_to_xyxy
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.layers.backbones import ResNet
from trackers.losses import box_losses, corner_loss, similarity_loss
from trackers.presence import Presence
from trackers.runtimes.graph import Graph
from trackers.stark.expectation import Expectation
from trackers.stark.following import STARKRules, Updating
from trackers.stark.graphs import PositionGraph, SearchGraph, TemplateGraph
from trackers.stark.network import STARKNetwork

__all__ = ["STARK", "Updating"]


class STARK(Tracker):
    """Tracker of a CNN and a transformer; with two templates, one of which is updated while tracking (STARK-ST).

    Args:
        template, search: geometry of the crops; `template.count` is 1 for STARK-S and 2 for STARK-ST.
        backbone, stride, transformer, head_channels, class_head, corner_offset: arguments of `STARKNetwork`.
        loss: weights of the losses "giou", "l1", "class", "corners" and "similarity". The last two are losses of the
            corner and similarity maps, 0 in the original. A network that is trained from scratch learns much sooner
            with them.
        objective: "box" trains all but the class head on boxes; "class" trains the class head alone (the original's
            second stage).
        freeze_stem: whether the stem and the first stage of the backbone keep their pretrained weights.
        compat: "reference" drops the GIoU loss of a batch if one predicted box has no area, as the original does;
            "exact" keeps it.
        recipe: hyperparameters of the training.
        online: settings of the online loop.
        expectation: weighting of the corner maps by the last box; None for none, as in the original.
    """

    family = "hybrid"  # convolutions, then a transformer
    distilled = ("transformer",)  # the memory

    network: STARKNetwork
    online: Updating

    def __init__(
        self,
        template: CropSpec,
        search: CropSpec,
        backbone: str | Mapping[str, Any],
        transformer: Mapping[str, Any],
        head_channels: Sequence[int],
        class_head: bool,
        corner_offset: float,
        loss: Mapping[str, float],
        objective: str,
        freeze_stem: bool,
        compat: str,
        recipe: Recipe,
        online: Updating,
        expectation: Expectation | None = None,
        stride: int | None = None,
    ):
        network = STARKNetwork(backbone, transformer, head_channels, class_head, corner_offset, template.size, stride)
        super().__init__(network, template, search, recipe, online)
        if objective not in ("box", "class") or (objective == "class" and not class_head):
            raise TrackerError(
                f"tracker.objective={objective} is not possible with tracker.class_head={class_head}; choose box, or "
                "class with a class head"
            )
        self.loss, self.objective, self.freeze_stem, self.compat = dict(loss), objective, freeze_stem, compat
        self.expectation = expectation

    def default_presence(self) -> Presence:
        """Returns the calibration for recipes without one.

        The class head learns from as many regions with the target as without, so its odds are those of the presence. A
        tracker without a class head has the calibration of the tiny tracker.
        """
        if self.network.cls_head is not None:
            return Presence(half=1.0, slope=1.0, tracked=0.8, lost=0.1)
        return Presence(half=0.0469, slope=3.61, tracked=0.74, lost=0.11)

    def departures_from_original(self) -> dict[str, bool]:
        """Returns options of small networks that are trained from scratch, and whether this tracker uses them."""
        transformer = self.network.transformer
        return super().departures_from_original() | {
            "a backbone of stride 8 or of timm": self.network.backbone.stride == 8
            or not isinstance(self.network.backbone, ResNet),
            "attention that starts by comparing content": transformer.matching_init,
            "positions in the values of the encoder": transformer.position_in_values,
            "heads that start by looking at the template": transformer.template_bias is not None,
            "corners at the centres of cells": self.network.box_head.offset > 0,
            "corners expected near the last ones": self.expectation is not None,
            "losses of corner and similarity maps": bool(self.loss["corners"] or self.loss["similarity"]),
        }

    def groups(self) -> list[Group]:
        """Returns the pruning groups of the network; see `STARKNetwork.groups`."""
        return self.network.groups()

    def is_trained(self, name: str) -> bool:
        """Returns whether a parameter is trained. With objective "class" only the class head is trained.

        With objective "box" the class head learns only from the outputs of a teacher. Without one no loss depends on
        it, and several processes that train together need a gradient of every trained parameter.
        """
        if name.startswith("cls_head."):
            return self.objective == "class" or bool(self.teacher and self.teacher.outputs)
        stem = self.network.backbone.stage_modules(1) if self.freeze_stem else ()
        return self.objective == "box" and not name.startswith(tuple(f"backbone.{module}." for module in stem))

    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """Returns the backbone's pretrained weights; see its method `pretrained`."""
        return self.network.backbone.pretrained()

    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads the backbone's pretrained weights; see its method `load_pretrained`."""
        self.network.backbone.load_pretrained(weights, source)

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the outputs with corner probabilities in place of log-probabilities.

        Differences of probabilities in unlikely cells are small, but differences of log-probabilities are not.
        """
        return {name: value.exp() if name == "corners" else value for name, value in outputs.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of the boxes, or of the class head with objective "class", and "total"."""
        found = self.network(
            self.normalise(batch["search"][:, 0]),
            self.normalise(batch["template"]),
            search_padding=batch["search_padding"][:, 0],
            template_padding=batch["template_padding"],
            boxes=self.objective == "box",  # a forward would change the statistics of the corner head's batch norms
        )
        if self.objective == "class":
            entropy = F.binary_cross_entropy_with_logits(found["class_logit"], batch["present"][:, 0])
            return {"class": entropy, "total": self.loss["class"] * entropy}
        return self.box_losses(found, batch["search_box"][:, 0])

    def box_losses(self, found: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
        """Returns the losses of the network's outputs for true boxes (B, 4), xywh in units of the crop's side."""
        corners = xywh_to_xyxy(boxes).clamp(0, 1)
        parts = box_losses(found["boxes"], corners)
        if self.compat == "reference" and (found["boxes"][:, 2:] < 0).any():
            parts |= {"giou": torch.zeros_like(parts["giou"]), "iou": torch.zeros_like(parts["iou"])}
        if self.loss["corners"]:
            parts["corners"] = corner_loss(found["corners"], corners, self.network.box_head.offset)
        if self.loss["similarity"]:
            scale = self.network.transformer.width**-0.5
            parts["similarity"] = similarity_loss(scale * found["similarity"], boxes)
        parts["total"] = reduce(operator.add, (self.loss[n] * v for n, v in parts.items() if n in self.loss))
        return parts

    def graphs(self) -> dict[str, Graph]:
        """Returns the features of a template, position embeddings of both crops, and the box in a search crop."""
        template, search = self.template.size, self.search.size
        query = self.network.query
        known = query.new_zeros(1, self.template.count * self.network.template_cells**2, query.shape[1])
        pixels = torch.zeros(1, template, template, 3, dtype=torch.uint8, device=self.device)
        cells = self.network.template_cells, search // self.network.backbone.stride
        padded = [torch.zeros(1, n, n, dtype=torch.bool, device=self.device) for n in cells]
        position = known.new_zeros(1, cells[1] ** 2, known.shape[2])
        in_search = {
            "pixels": pixels.new_zeros(1, search, search, 3),
            "position": position,
            "padded": padded[1].flatten(1),
            "template": known,
            "template_position": torch.zeros_like(known),
            "template_padded": known.new_zeros(known.shape[:2], dtype=torch.bool),
        }
        if self.expectation is not None:
            in_search["last_box"] = torch.tensor([[0.5, 0.5, 0.25, 0.25]], device=self.device)
        embed = PositionGraph(self.network.position)
        return {
            "template": Graph(TemplateGraph(self.network), {"pixels": pixels}, ("features",), frozenset({"pixels"})),
            "template_position": Graph(embed, {"padded": padded[0]}, ("position",), frozenset({"padded"})),
            "search_position": Graph(embed, {"padded": padded[1]}, ("position",), frozenset({"padded"})),
            "search": Graph(
                SearchGraph(self.network, self.expectation),
                in_search,
                ("box", "score", "evidence"),
                frozenset(in_search),
            ),
        }

    def rules(self) -> STARKRules:
        """Returns the online rules."""
        stride = self.network.backbone.stride
        return STARKRules(self.template, self.search, self.online, stride, self.expectation is not None)

    def example_inputs(self) -> Batch:
        """Returns templates and a search crop without padding."""
        template, search, count = self.template.size, self.search.size, self.template.count
        return {
            "search": torch.randn(1, 3, search, search, device=self.device),
            "template": torch.randn(1, count, 3, template, template, device=self.device),
        }

    def frame_inputs(self, network: STARKNetwork | None = None) -> Batch:
        """Returns a search crop and the features of the templates, which tracking computes once per template."""
        network = network or self.network
        shape = (1, self.template.count * network.template_cells**2, network.query.shape[1])
        search = torch.randn(1, 3, self.search.size, self.search.size, device=self.device)
        return {"search": search, "template_features": torch.randn(shape, device=self.device)}
