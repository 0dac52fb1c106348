"""What every tracker is: a network, its losses, its part of the online loop, and its pruning groups.

A fourth tracker is a subclass of `Tracker` and a file in `conf/tracker/`; nothing else has to know of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytorch_lightning as L
import torch
from torch import Tensor, nn

from pruning.groups import Group
from trackers.crops import CropSpec, Window

if TYPE_CHECKING:
    from trackers.distillation import Teacher

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Batch = dict[str, Tensor]


class Crop(NamedTuple):
    """What a tracker is shown, on the CPU until it moves it.

    Attributes:
        pixels: (3, S, S), 0 to 255, uint8 unless the crop could not be rounded.
        padding: which rows and which columns show padding, (2, S) bool; None for none.
        target: where the last known box lies in it, cxcywh in units of the crop's side.
        picture: where the picture's edges lie, xyxy in the same units.
    """

    pixels: Tensor
    padding: Tensor | None
    target: tuple[float, ...] = ()
    picture: tuple[float, ...] = ()

    def to(self, device: torch.device) -> "Crop":
        """The same on a device."""
        return self._replace(
            pixels=self.pixels.to(device), padding=None if self.padding is None else self.padding.to(device)
        )


@dataclass(frozen=True)
class Recipe:
    """How a tracker is trained, whatever the stage.

    Attributes:
        lr: peak learning rate of AdamW.
        rates: multiples of `lr` for parts of the network, by the start of their names; the longest that fits counts.
        weight_decay: decay, of everything or of matrices only.
        decay_vectors: whether norms, biases and other vectors decay too (the originals do that).
        clip: largest norm of the gradient; None for any.
        schedule: factor of the rate over the stage's progress in [0, 1].
        sampling: order of the frames of a training sample, see `datamodules.sampling`.
        negatives: share of samples whose search region does not show the target.
    """

    lr: float
    rates: Mapping[str, float]
    weight_decay: float
    decay_vectors: bool
    clip: float | None
    schedule: Callable[[float], float]
    sampling: str = "causal"
    negatives: float = 0.0

    def rate(self, name: str) -> float:
        """The multiple of `lr` for a parameter of this name."""
        heads = [head for head in self.rates if name.startswith(head)]
        return self.rates[max(heads, key=len)] if heads else 1.0


@dataclass(frozen=True)
class Online:
    """The part of the online loop that all trackers share.

    Attributes:
        min_size: smallest side of a box in pixels, and how much of it stays inside the picture; None leaves boxes as
            they are found.
        size_smoothing: share of the previous frame's width and height in the new ones; 0 as in the originals.
    """

    min_size: float | None
    size_smoothing: float


class Tracker(L.LightningModule, ABC):
    """The contract. Subclasses build `network` and fill in the abstract methods.

    Batches hold crops as uint8 and boxes as xywh in units of the crop's side:
    "template" (B, T, 3, h, w), "template_box" (B, T, 4), "search" (B, S, 3, H, W), "search_box" (B, S, 4), of as many
    templates T and search regions S as the crops' `count` says.
    "template_padding" (B, T, 2, h) and "search_padding" (B, S, 2, H) say which rows and which columns lie outside
    of the picture (bool); "present" (B, S) is 1 where the search region shows the target.

    Attributes:
        network: everything that is trained, pruned, saved and counted; never-executed layers are not built.
        template, search: the two kinds of crops.
        family: what the network is made of, the factor that studies compare: CNN, transformer, hybrid or another.
        stage: name of the running training stage, the prefix of everything that is logged.
        lr_scale: multiplies the recipe's learning rates in this stage.
        distilled: the modules of `network` whose outputs (of several: the first) are the features that a child learns
            from its parent: tokens (B, N, C) or maps (B, C, H, W).
        lockstep: whether several targets advance as one forward of one batch, see `steps`.
        teacher: the parent that is learned from in this stage, if any.
    """

    network: nn.Module
    family: str = "other"
    distilled: tuple[str, ...] = ()
    lockstep: bool = False
    teacher: "Teacher | None" = None

    def __init__(self, network: nn.Module, template: CropSpec, search: CropSpec, recipe: Recipe, online: Online):
        super().__init__()
        self.network, self.template, self.search = network, template, search
        self.recipe, self.online = recipe, online
        self.stage, self.lr_scale = "train", 1.0

    # What a tracker has to say

    @abstractmethod
    def groups(self) -> list[Group]:
        """The pruning groups of the network as it is now, paths relative to `network`."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars: "total", which is minimised, and the parts worth logging."""

    @abstractmethod
    def start(self, template: Crop) -> Any:
        """All that tracking needs to remember, from the first frame's template crop.

        It may hold several templates, filters or memories, and `step` and `observe` may change it.
        """

    @abstractmethod
    def step(self, state: Any, search: Crop) -> tuple[Tensor, float]:
        """The target in a search crop: cxcywh (4,) in units of the crop's side; a score in [0, 1]."""

    def steps(self, states: Sequence[Any], searches: Sequence[Crop]) -> list[tuple[Tensor, float]]:
        """What `step` finds for each of several targets, each in a search crop of its own: by default one by one.

        A tracker with `lockstep` overrides this with one forward of one batch, and its `step` is a batch of one.

        Args:
            states: of different targets, at least one.
            searches: the crop of each.
        """
        return [self.step(state, search) for state, search in zip(states, searches, strict=True)]

    @abstractmethod
    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """The backbone's pretrained weights, from the library that it comes from."""

    @abstractmethod
    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Starts the backbone from pretrained weights under their library's names; `source` is for messages.

        Raises:
            CheckpointError: they are another network's.
        """

    def observe(self, state: Any, image: np.ndarray, box: tuple[float, ...], score: float) -> None:
        """Called when a frame is done, with the final box (xywh, pixels), for trackers that update themselves."""

    @abstractmethod
    def example_inputs(self) -> Batch:
        """Random inputs of a whole `network` forward at batch 1, in whose shapes nothing depends on what was pruned."""

    def frame_inputs(self, network: nn.Module | None = None) -> Batch:
        """Inputs of the forward that every frame needs, for counting and timing: by default the whole.

        Args:
            network: a cut copy of the tracker's, where shapes depend on what was cut; by default its own.
        """
        return self.example_inputs()

    def timed_parts(self) -> dict[str, Callable[[], Any]]:
        """Calls that do what a frame's time goes to, by name, for benchmarks; none if it is all one network."""
        return {}

    def departures_from_original(self) -> dict[str, bool]:
        """What the original has not, in words, and whether this tracker has it: named wherever it is scored."""
        return {"sizes of boxes smoothed over time": self.online.size_smoothing > 0}

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's outputs in training in a form whose squared errors tell a child what matters: by default as is.

        All that is returned is finite: logarithms of probabilities, for one, become probabilities.
        """
        return dict(outputs)

    def trained(self, name: str) -> bool:
        """Whether the network's parameter of this name is trained at all."""
        return True

    # What all trackers share

    def crop(self, image: np.ndarray, box: tuple[float, ...], spec: CropSpec) -> tuple[Crop, Window]:
        """Crops a picture (H, W, 3) uint8 around a box (xywh, pixels)."""
        picture, edges, window = spec.cut(image, box)
        outside = torch.from_numpy(edges) if edges.any() else None
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        x, y, w, h = window.relative(box).tolist()
        left, top, width, height = window.relative((0, 0, image.shape[1], image.shape[0])).tolist()
        return Crop(pixels, outside, (x + w / 2, y + h / 2, w, h), (left, top, left + width, top + height)), window

    def to_batch(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor | None]:
        """Crops as a batch on the tracker's device, moved there at once.

        Args:
            crops: of one size, each with padding or without any.

        Returns:
            Normalised pixels (B, 3, S, S), and padding (B, 2, S) bool; None if no crop has any.
        """
        pixels = self.normalise(torch.stack([crop.pixels for crop in crops]).to(self.device))
        if all(crop.padding is None for crop in crops):
            return pixels, None
        none = torch.zeros(2, pixels.shape[-1], dtype=torch.bool, device="cpu")
        padding = torch.stack([none if crop.padding is None else crop.padding for crop in crops])
        return pixels, padding.to(self.device)

    def setup(self, stage: str) -> None:
        """Freezes what is not trained."""
        for name, p in self.network.named_parameters():
            p.requires_grad_(self.trained(name))

    def on_fit_start(self) -> None:
        """Takes the teacher along to the device."""
        if self.teacher is not None:
            self.teacher.parent.to(self.device)

    @staticmethod
    def normalise(pixels: Tensor) -> Tensor:
        """Crops (..., 3, H, W), 0 to 255, to what ImageNet networks expect."""
        mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step; logs every loss and the number of frames that could not be read."""
        losses = self.losses(batch) if self.teacher is None else self.teacher.losses(self, batch)
        self._log(losses, "")
        self.log(f"{self.stage}/lr", self.optimizers().param_groups[0]["lr"])
        if "unreadable" in batch:
            unreadable = batch["unreadable"].sum().float()
            how = {"on_step": False, "on_epoch": True, "sync_dist": True, "reduce_fx": "sum"}
            self.log(f"{self.stage}/unreadable_frames", unreadable, **how)
        return losses["total"]

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs the losses on validation pairs."""
        self._log(self.losses(batch), "val_", on_epoch=True, sync_dist=True)

    def _log(self, losses: dict[str, Tensor], prefix: str, **how: Any) -> None:
        size = self.trainer.datamodule.batch_size
        for name, value in losses.items():
            self.log(f"{self.stage}/{prefix}{name}", value, prog_bar=name in ("total", "iou"), batch_size=size, **how)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a group for the backbone, and the recipe's schedule stretched over the stage."""
        r, groups = self.recipe, {}
        for name, p in self.network.named_parameters():
            if not self.trained(name):
                continue
            lr = r.lr * self.lr_scale * r.rate(name)
            decay = r.weight_decay if r.decay_vectors or p.squeeze().dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(p)
        parts = [{"params": ps, "lr": lr, "weight_decay": wd} for (lr, wd), ps in groups.items()]
        # A fused step saves a tiny network a tenth of its time. In mixed precision Lightning refuses to clip with one.
        optimizer = torch.optim.AdamW(parts, fused=self.trainer.precision == "32-true")
        steps = max(1, self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: r.schedule(min(step / steps, 1.0)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clips by norm: a property of the tracker's recipe, not of the trainer."""
        if self.recipe.clip is not None:
            self.clip_gradients(optimizer, self.recipe.clip, "norm")
