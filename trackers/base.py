"""Base class of all trackers: a network, its losses, its part of the online loop, and its pruning groups.

A new tracker is a subclass of `Tracker`, a file in `conf/tracker/` and a file of sizes in `conf/tracker/scale/`.
Nothing else has to change.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from pruning.groups import Group
from trackers.crops import CropSpec, Window

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Batch = dict[str, Tensor]


class Crop(NamedTuple):
    """Crop of one frame, the input of `Tracker.start` and `Tracker.step`. It is on the CPU until the tracker moves it.

    Attributes:
        pixels: (3, S, S), 0 to 255, uint8; float32 if the tracker does not round its crops.
        padding: rows and columns that show padding, (2, S) bool; None if there are none.
        target: the last known box in the crop, cxcywh in units of the crop's side.
        picture: the picture's edges in the crop, xyxy in units of the crop's side.
    """

    pixels: Tensor
    padding: Tensor | None
    target: tuple[float, ...] = ()
    picture: tuple[float, ...] = ()

    def to(self, device: torch.device) -> "Crop":
        """Returns a copy on a device."""
        return self._replace(
            pixels=self.pixels.to(device), padding=None if self.padding is None else self.padding.to(device)
        )


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a tracker's training, the same in all stages.

    Attributes:
        lr: peak learning rate of AdamW.
        rates: factors of `lr` by prefix of parameter names; the longest matching prefix applies.
        weight_decay: weight decay of AdamW.
        decay_vectors: whether weight decay applies to norms, biases and other vectors too, as in the originals.
        clip: largest gradient norm; None for no clipping.
        schedule: factor of the learning rate as a function of the stage's progress in [0, 1].
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
        """Returns the factor of `lr` for the parameter `name`."""
        prefixes = [prefix for prefix in self.rates if name.startswith(prefix)]
        return self.rates[max(prefixes, key=len)] if prefixes else 1.0


@dataclass(frozen=True)
class Online:
    """Settings of the online loop that all trackers share.

    Attributes:
        min_size: smallest side of a box in pixels, after the box is clipped to the picture; None for no clipping.
        size_smoothing: weight of the previous frame's width and height in the new ones; 0 as in the originals.
    """

    min_size: float | None
    size_smoothing: float


class Teacher(Protocol):
    """Parent that a tracker learns from; `trackers.distillation` has the implementation.

    Attributes:
        parent: the parent.
        outputs: weight of the loss of outputs; 0 if they are not distilled.
    """

    parent: nn.Module
    outputs: float

    def losses(self, student: "Tracker", batch: Batch) -> dict[str, Tensor]:
        """Returns the student's losses, with the distillation losses in "total"."""


class Tracker(L.LightningModule, ABC):
    """Abstract tracker. Subclasses build `network` and implement the abstract methods.

    A batch has T templates and S search regions for each of its B samples, as the crops' `count` says. Its entries:
        "template" (B, T, 3, h, w) and "search" (B, S, 3, H, W): crops, uint8.
        "template_box" (B, T, 4) and "search_box" (B, S, 4): boxes, xywh in units of the crop's side.
        "template_padding" (B, T, 2, h) and "search_padding" (B, S, 2, H): rows and columns that lie outside of the
            picture, bool.
        "present" (B, S): 1 where the search region shows the target, else 0.

    Attributes:
        network: everything that is trained, pruned, saved and counted. Layers that never run are not built.
        template, search: geometry of the two kinds of crops.
        family: architecture that studies compare: CNN, transformer, hybrid or other.
        stage: name of the running training stage, the prefix of all logged values.
        lr_scale: factor of the recipe's learning rate in this stage.
        distilled: modules of `network` whose output is distilled from parent to child: tokens (B, N, C) or maps
            (B, C, H, W). If a module returns several outputs, the first one is distilled.
        smallest_batch: number of samples that a training must take at once, e.g. for the statistics of batch norms.
        lockstep: whether several targets advance in one batched forward, see `steps`.
        teacher: parent that is distilled in this stage; None for no distillation.
    """

    network: nn.Module
    family: str = "other"
    distilled: tuple[str, ...] = ()
    smallest_batch: int = 1
    lockstep: bool = False
    teacher: Teacher | None = None

    def __init__(self, network: nn.Module, template: CropSpec, search: CropSpec, recipe: Recipe, online: Online):
        super().__init__()
        self.network, self.template, self.search = network, template, search
        self.recipe, self.online = recipe, online
        self.stage, self.lr_scale = "train", 1.0

    # For subclasses to implement or override

    @abstractmethod
    def groups(self) -> list[Group]:
        """Returns the pruning groups of the network in its present size; paths are relative to `network`."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the scalar losses of a batch: "total", which is minimised, and its parts, which are logged."""

    @abstractmethod
    def start(self, template: Crop) -> Any:
        """Returns the tracking state of a new target from the first frame's template crop.

        The state holds e.g. templates, filters or a memory. `step` and `observe` may change it.
        """

    @abstractmethod
    def step(self, state: Any, search: Crop) -> tuple[Tensor, float]:
        """Finds the target in a search crop.

        Returns:
            The box, cxcywh (4,) in units of the crop's side, and a score in [0, 1].
        """

    def steps(self, states: Sequence[Any], searches: Sequence[Crop]) -> list[tuple[Tensor, float]]:
        """Finds several targets, each in a search crop of its own, and returns what `step` does for each.

        The default calls `step` for one target after the other. A tracker with `lockstep` overrides this method with
        one batched forward, and its `step` is a batch of one.

        Args:
            states: states of different targets, at least one.
            searches: one search crop per target.
        """
        return [self.step(state, search) for state, search in zip(states, searches, strict=True)]

    @abstractmethod
    def pretrained_backbone(self) -> Mapping[str, Tensor]:
        """Returns the backbone's pretrained weights from its library (timm or torchvision), which may download them."""

    @abstractmethod
    def load_backbone(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads pretrained weights into the backbone.

        Args:
            weights: by their library's names.
            source: file or library, for error messages.

        Raises:
            CheckpointError: the weights belong to another network.
        """

    def observe(self, state: Any, image: np.ndarray, box: tuple[float, ...], score: float) -> None:
        """Updates the state after a frame, e.g. with a new template; does nothing by default.

        Args:
            state: the target's state.
            image: the frame, (H, W, 3) uint8.
            box: the reported box, xywh in pixels.
            score: the reported score.
        """

    @abstractmethod
    def example_inputs(self) -> Batch:
        """Returns random inputs of a complete forward of `network` at batch 1. Pruning does not change their shapes."""

    def frame_inputs(self, network: Any = None) -> dict[str, Any]:
        """Returns inputs of the forward that runs for every frame, for counting MACs and measuring latency.

        The default is `example_inputs`.

        Args:
            network: network to make inputs for, if shapes depend on its pruned sizes; the tracker's own by default.
        """
        return self.example_inputs()

    def timed_parts(self) -> dict[str, Callable[[], Any]]:
        """Returns functions that run the parts of a frame's work, by name, for benchmarks; {} if there is one part."""
        return {}

    def departures_from_original(self) -> dict[str, bool]:
        """Returns options that the original lacks, in words, and whether this tracker uses them.

        Results and reports list the options that are used.
        """
        return {"sizes of boxes smoothed over time": self.online.size_smoothing > 0}

    def distillation_targets(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the network's training outputs in the form that distillation compares; by default unchanged.

        Distillation minimises squared errors, so all returned values must be finite. Log-probabilities, for example,
        become probabilities.
        """
        return dict(outputs)

    def is_trained(self, name: str) -> bool:
        """Returns whether the network's parameter `name` is trained; True by default."""
        return True

    # Shared by all trackers

    def crop(self, image: np.ndarray, box: tuple[float, ...], spec: CropSpec) -> tuple[Crop, Window]:
        """Crops a picture (H, W, 3) uint8 around a box (xywh, pixels); returns the crop and the window of its boxes."""
        picture, padded, window = spec.tracking_crop(image, box)
        padding = torch.from_numpy(padded) if padded.any() else None
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        x, y, w, h = window.relative(box).tolist()
        left, top, width, height = window.relative((0, 0, image.shape[1], image.shape[0])).tolist()
        return Crop(pixels, padding, (x + w / 2, y + h / 2, w, h), (left, top, left + width, top + height)), window

    def to_batch(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor | None]:
        """Stacks crops to a batch on the tracker's device.

        Args:
            crops: crops of one size, with or without padding.

        Returns:
            Normalised pixels (B, 3, S, S), and padding (B, 2, S) bool or None if no crop has padding.
        """
        pixels = self.normalise(torch.stack([crop.pixels for crop in crops]).to(self.device))
        if all(crop.padding is None for crop in crops):
            return pixels, None
        none = torch.zeros(2, pixels.shape[-1], dtype=torch.bool, device="cpu")
        padding = torch.stack([none if crop.padding is None else crop.padding for crop in crops])
        return pixels, padding.to(self.device)

    def setup(self, stage: str) -> None:
        """Freezes the parameters that are not trained."""
        for name, p in self.network.named_parameters():
            p.requires_grad_(self.is_trained(name))

    def on_fit_start(self) -> None:
        """Moves the teacher to the device. Lightning does not move it, because it is no submodule."""
        if self.teacher is not None:
            self.teacher.parent.to(self.device)

    @staticmethod
    def normalise(pixels: Tensor) -> Tensor:
        """Normalises crops (..., 3, H, W), 0 to 255, with ImageNet's mean and standard deviation."""
        mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Returns the loss of a batch; logs all losses, the learning rate and the number of unreadable frames."""
        losses = self.losses(batch) if self.teacher is None else self.teacher.losses(self, batch)
        self._log(losses, "", len(batch["search"]))
        self.log(f"{self.stage}/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        if "unreadable" in batch:
            unreadable = batch["unreadable"].sum().float()
            how: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True, "reduce_fx": "sum"}
            self.log(f"{self.stage}/unreadable_frames", unreadable, **how)
        return losses["total"]

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs the losses of a validation batch."""
        # Losses may draw random numbers. Those of validation are the same each time, and training does not notice them.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(index)
            losses = self.losses(batch)
        self._log(losses, "val_", len(batch["search"]), on_epoch=True, sync_dist=True)

    def _log(self, losses: dict[str, Tensor], prefix: str, size: int, **how: Any) -> None:
        for name, value in losses.items():
            self.log(f"{self.stage}/{prefix}{name}", value, prog_bar=name in ("total", "iou"), batch_size=size, **how)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns AdamW with the recipe's learning rates and decays, and its schedule over the stage's steps."""
        r, groups = self.recipe, {}
        for name, p in self.network.named_parameters():
            if not self.is_trained(name):
                continue
            lr = r.lr * self.lr_scale * r.rate(name)
            decay = r.weight_decay if r.decay_vectors or p.squeeze().dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(p)
        parts = [{"params": ps, "lr": lr, "weight_decay": wd} for (lr, wd), ps in groups.items()]
        # A fused step saves a tenth of a tiny network's time. With a loss scaler it would unscale the gradients itself,
        # after they are clipped.
        optimizer = torch.optim.AdamW(parts, fused=self.trainer.precision != "16-mixed")
        steps = max(1, self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: r.schedule(min(step / steps, 1.0)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clips the norm of the gradients to the recipe's `clip`. The trainer's `gradient_clip_val` has no effect."""
        # Lightning's own function refuses every fused optimizer in mixed precision, also without a loss scaler.
        if self.recipe.clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
