"""OSTrack (Ye et al., ECCV 2022) as a Lightning module."""

import math
import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruning.groups import Group
from trackers.base import Batch, Online, Recipe, Tracker
from trackers.boxes import xywh_to_xyxy
from trackers.contents import load_strictly
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.layers.pretrained import vit_weights
from trackers.losses import box_losses, focal_loss, gaussian_heatmap, near_target
from trackers.ostrack.elimination import Elimination
from trackers.ostrack.following import OSTrackRules
from trackers.ostrack.graphs import SearchGraph, TemplateGraph
from trackers.ostrack.head import best_box, cell_boxes
from trackers.ostrack.initialisation import tracking_weights
from trackers.ostrack.network import OSTrackNetwork
from trackers.ostrack.response import Response
from trackers.presence import Presence
from trackers.runtimes.graph import Graph


class OSTrack(Tracker):
    """One-stream transformer tracker: one ViT reads template and search region together.

    Args:
        template, search: geometry of the crops.
        backbone: name of a timm ViT.
        vit: further arguments of `trackers.ostrack.backbone.OneStreamViT`, which change the named ViT; None for none.
        elimination: candidate elimination; None for none.
        head_channels: channels of the CENTER head's layers.
        loss: weights "focal", "giou" and "l1", and "cells", the cells of box losses: "best" is the cell of the highest
            predicted score, as in the original; "near" is all cells near the target, weighted. A network that is
            trained from scratch learns much sooner with "near".
        recipe: hyperparameters of the training.
        online: settings of the online loop.
        response: response of the cells while tracking; None for OSTrack's own, the score times a window.
    """

    family = "transformer"
    distilled = ("backbone",)
    network: OSTrackNetwork

    def __init__(
        self,
        template: CropSpec,
        search: CropSpec,
        backbone: str,
        vit: Mapping[str, Any] | None,
        elimination: Elimination | None,
        head_channels: Sequence[int],
        loss: Mapping[str, Any],
        recipe: Recipe,
        online: Online,
        response: Response | None = None,
    ):
        network = OSTrackNetwork(backbone, template.size, search.size, vit or {}, elimination, head_channels)
        super().__init__(network, template, search, recipe, online)
        if loss["cells"] not in ("best", "near"):
            raise TrackerError(f"tracker.loss.cells={loss['cells']} is not known; choose best or near")
        self.loss, self.response = dict(loss), response

    def default_presence(self) -> Presence:
        """Returns the calibration of the tiny tracker, for recipes without one."""
        return Presence(half=0.454, slope=6.29, tracked=0.805, lost=0.0903)

    def departures_from_original(self) -> dict[str, bool]:
        """Returns options of small networks that are trained from scratch, and whether this tracker uses them."""
        return super().departures_from_original() | {
            "a convolutional stem of stride 8": self.network.backbone.has_stem,
            "attention that starts by comparing content": self.network.backbone.matching_init,
            "box losses of all cells near the target": self.loss["cells"] == "near",
            "a penalty of changes of size and shape, and a blended window": self.response is not None,
        }

    def groups(self) -> list[Group]:
        """Returns the pruning groups of the network; see `OSTrackNetwork.groups`."""
        return self.network.groups()

    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """Returns the ViT's weights; see `vit_weights`."""
        return vit_weights(self.network.backbone.name)

    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads a pretrained ViT with timm's or MAE's names, and resizes its position embedding to the crops.

        Args:
            weights: state dict of the ViT.
            source: file or library, for error messages.

        Raises:
            CheckpointError: the weights belong to another network.
        """
        backbone = self.network.backbone
        grids = {name: math.isqrt(getattr(backbone, name).shape[1]) for name in ("pos_embed_z", "pos_embed_x")}
        load_strictly(backbone, tracking_weights(weights, grids, backbone.form, backbone.prefix), source)

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the maps of the head; size and offset are multiplied by the score.

        The losses define size and offset near the target only.
        """
        score = outputs["score_map"]
        return {"score_map": score} | {name: score * outputs[name] for name in ("size_map", "offset_map")}

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Sets the share of candidates that the epoch keeps. As in the original, validation uses this share, too."""
        backbone = self.network.backbone
        if backbone.elimination is not None:
            backbone.keep = backbone.elimination.training_share(self.current_epoch + 1)

    def on_train_end(self) -> None:
        """Lets each block keep its own share of candidates again."""
        self.network.backbone.keep = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the focal loss of the score map, the GIoU and l1 losses of boxes, and "total", their weighted sum."""
        template, search = self.normalise(batch["template"][:, 0]), self.normalise(batch["search"][:, 0])
        maps = self.network(template, search)
        return self.map_losses(maps, batch["search_box"][:, 0])

    def map_losses(self, maps: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
        """Returns the losses of the head's maps for true boxes (B, 4), xywh in units of the crop's side."""
        heat = gaussian_heatmap(boxes, maps["score_map"].shape[-1])
        corners = xywh_to_xyxy(boxes).clamp(0, 1)
        if self.loss["cells"] == "best":
            parts = box_losses(best_box(maps, maps["score_map"])[0], corners)
        else:
            near = near_target(boxes, heat.shape[-1]).flatten(1)
            picked = near.nonzero(as_tuple=True)
            parts = box_losses(cell_boxes(maps)[picked], corners[picked[0]], near[picked])
        parts["focal"] = focal_loss(maps["score_map"][:, 0], heat)
        parts["total"] = reduce(operator.add, (self.loss[name] * parts[name] for name in ("focal", "giou", "l1")))
        return parts

    def graphs(self) -> dict[str, Graph]:
        """Returns "template", the tokens of a template, and "search", the box in a search crop."""
        template, search = self.template.size, self.search.size
        pixels = torch.zeros(1, template, template, 3, dtype=torch.uint8, device=self.device)
        embed, backbone = TemplateGraph(self.network), self.network.backbone
        tokens = torch.zeros_like(backbone.pos_embed_z)  # has the present width of a child
        inputs = {"template": tokens, "pixels": pixels.new_zeros(1, search, search, 3)}
        if self.response is not None:
            inputs["last_size"] = torch.full((1, 2), 0.25, device=self.device)
        return {
            "template": Graph(embed, {"pixels": pixels}, ("tokens",), frozenset({"pixels"})),
            "search": Graph(
                SearchGraph(self.network, self.response), inputs, ("box", "response", "peak"), frozenset(inputs)
            ),
        }

    def rules(self) -> OSTrackRules:
        """Returns the online rules."""
        return OSTrackRules(self.template, self.search, self.online, self.response is not None)

    def example_inputs(self) -> Batch:
        """Returns one template and one search crop.

        MACs and latency of a frame include the template, as in published numbers.
        """
        return {
            "template": torch.randn(1, 3, self.template.size, self.template.size, device=self.device),
            "search": torch.randn(1, 3, self.search.size, self.search.size, device=self.device),
        }
