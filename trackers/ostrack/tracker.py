"""OSTrack (Ye et al., ECCV 2022) as a Lightning module."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from pruning.groups import Group
from trackers.base import Batch, Crop, Online, Recipe, Tracker
from trackers.boxes import xywh_to_xyxy
from trackers.contents import load_strictly
from trackers.crops import CropSpec
from trackers.losses import box_losses, focal_loss, gaussian_heatmap, near_target
from trackers.ostrack.elimination import Elimination
from trackers.ostrack.head import best_box, cell_boxes
from trackers.ostrack.initialisation import tracking_weights
from trackers.ostrack.network import OSTrackNetwork
from trackers.ostrack.response import Response


class OSTrack(Tracker):
    """One-stream transformer tracker.

    Args:
        template, search: the crops.
        backbone: name of a timm ViT.
        vit: what differs from that; further arguments of `backbone.OneStreamViT`.
        elimination: which candidates leave on the way; None for none.
        head_channels: channels of the CENTER head.
        loss: weights "focal", "giou" and "l1", and "cells": where box losses are taken. "best": the cell of the highest
            predicted score, as the original; "near": all cells near the target, weighted, which teaches a network that
            starts from nothing much sooner.
        recipe: how it is trained.
        online: the online loop's settings.
    """

    family = "transformer"
    distilled = ("backbone",)
    lockstep = True

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
            raise ValueError(f"loss.cells={loss['cells']} is not known; choose best or near")
        self.loss, self.response = dict(loss), response

    def departures_from_original(self) -> dict[str, bool]:
        """The stem, the start of attention and the box loss of networks that are trained from nothing."""
        return super().departures_from_original() | {
            "a convolutional stem of stride 8": self.network.backbone.has_stem,
            "attention that starts by comparing content": self.network.backbone.matching_init,
            "box losses of all cells near the target": self.loss["cells"] == "near",
            "a penalty of changes of size and shape, and a blended window": self.response is not None,
        }

    def groups(self) -> list[Group]:
        """See `OSTrackNetwork.groups`."""
        return self.network.groups()

    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """The ViT's weights from timm, which downloads them when they are asked for first."""
        return timm.create_model(self.network.backbone.name, pretrained=True).state_dict()

    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """A pretrained plain ViT, with timm's or MAE's names; position embeddings are resized to the crops."""
        backbone = self.network.backbone
        grids = {name: math.isqrt(getattr(backbone, name).shape[1]) for name in ("pos_embed_z", "pos_embed_x")}
        load_strictly(backbone, tracking_weights(weights, grids), source)

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The maps; those of boxes by the score, as far from the target nobody says what they should be."""
        score = outputs["score_map"]
        return {"score_map": score} | {name: score * outputs[name] for name in ("size_map", "offset_map")}

    def on_train_batch_start(self, *_: Any) -> None:
        """Candidates leave as the epoch's schedule has it; in validation, too, as in the original."""
        backbone = self.network.backbone
        if backbone.elimination is not None:
            backbone.keep = backbone.elimination.while_training(self.current_epoch + 1)

    def on_train_end(self) -> None:
        """Outside of a training, every block keeps its own share."""
        self.network.backbone.keep = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Focal loss of the score map, GIoU and l1 losses of boxes; `total` is their weighted sum."""
        template, search = self.normalise(batch["template"][:, 0]), self.normalise(batch["search"][:, 0])
        maps = self.network(template, search)
        return self.map_losses(maps, batch["search_box"][:, 0])

    def map_losses(self, maps: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
        """The losses of the head's maps against `boxes` (B, 4), xywh in units of the crop's side."""
        heat = gaussian_heatmap(boxes, maps["score_map"].shape[-1])
        corners = xywh_to_xyxy(boxes).clamp(0, 1)
        if self.loss["cells"] == "best":
            parts = box_losses(best_box(maps, maps["score_map"])[0], corners)
        else:
            near = near_target(boxes, heat.shape[-1]).flatten(1)
            picked = near.nonzero(as_tuple=True)
            parts = box_losses(cell_boxes(maps)[picked], corners[picked[0]], near[picked])
        parts["focal"] = focal_loss(maps["score_map"][:, 0], heat)
        parts["total"] = sum(self.loss[name] * parts[name] for name in ("focal", "giou", "l1"))
        return parts

    def start(self, template: Crop) -> dict[str, Tensor]:
        """The template's tokens, embedded once, and the window that favours small motion."""
        k = torch.arange(1, self.network.cells + 1, device=self.device)
        hann = 0.5 * (1 - torch.cos(2 * torch.pi * k / (self.network.cells + 1)))
        tokens = self.network.backbone.embed_template(self.to_batch([template])[0])
        return {"template": tokens, "window": torch.outer(hann, hann)}

    def step(self, state: dict[str, Tensor], search: Crop) -> tuple[Tensor, float]:
        """The box at the highest windowed score, and that score."""
        return self.steps([state], [search])[0]

    def steps(self, states: Sequence[dict[str, Tensor]], searches: Sequence[Crop]) -> list[tuple[Tensor, float]]:
        """The same for several targets, in one forward."""
        template = torch.cat([state["template"] for state in states])
        maps, window = (
            self.network.search(template, self.to_batch(searches)[0]),
            states[0]["window"],
        )  # the same for all
        if self.response is None:
            response = maps["score_map"] * window
        else:
            last = torch.tensor([search.target[2:] for search in searches], device=self.device)
            response = self.response(maps["score_map"], maps["size_map"], last, window)
        boxes, responses = best_box(maps, response)
        return list(zip(boxes.cpu(), responses.tolist(), strict=True))

    def example_inputs(self) -> Batch:
        """One template and one search crop. The template is counted with every frame, as the published numbers are."""
        return {
            "template": torch.randn(1, 3, self.template.size, self.template.size, device=self.device),
            "search": torch.randn(1, 3, self.search.size, self.search.size, device=self.device),
        }
