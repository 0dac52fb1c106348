"""Base class of all trackers: a network, its losses, its online rules, and its pruning groups.

A new tracker is a subclass of `Tracker`, a file in `conf/tracker/` and a file of sizes in `conf/tracker/scale/`.
Nothing else has to change.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as L
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from pruning.groups import Group
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.pixels import normalise
from trackers.presence import UNCALIBRATED, Presence
from trackers.rules import Online, OnlineRules
from trackers.runtimes.choices import open_runtime
from trackers.runtimes.graph import Graph
from trackers.runtimes.runtime import Runtime

__all__ = ["Batch", "Online", "Recipe", "Teacher", "Tracker"]

Batch = dict[str, Tensor]


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
        teacher: parent that is distilled in this stage; None for no distillation.
    """

    network: nn.Module
    family: str = "other"
    distilled: tuple[str, ...] = ()
    smallest_batch: int = 1
    teacher: Teacher | None = None

    def __init__(self, network: nn.Module, template: CropSpec, search: CropSpec, recipe: Recipe, online: Online):
        super().__init__()
        self.network, self.template, self.search = network, template, search
        self.recipe, self.online = recipe, online
        if online.presence is None:
            self.online = replace(online, presence=self.default_presence())
        self.stage, self.lr_scale = "train", 1.0

    # For subclasses to implement or override

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the scalar losses of a batch: "total", which is minimised, and its parts, which are logged."""

    @abstractmethod
    def graphs(self) -> dict[str, Graph]:
        """Returns the parts of the network that `rules` ask for, by name. Runtimes run them, and exports store them."""

    @abstractmethod
    def rules(self) -> OnlineRules:
        """Returns the online rules: what the tracker does in each frame, as plain data."""

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

    @abstractmethod
    def example_inputs(self) -> Batch:
        """Returns random inputs of a complete forward of `network` at batch 1. Pruning does not change their shapes."""

    def groups(self) -> list[Group]:
        """Returns the pruning groups of the network in its present size; paths are relative to `network`.

        By default they are found in a run with `example_inputs`, see `find_groups`. They depend on shapes alone,
        so they are the same before and after a training. Declare them to cut what no run shows.
        """
        from pruning import find_groups
        from pruning.cost import copy_to_meta

        inputs = self.example_inputs()
        return find_groups(copy_to_meta(self.network), lambda _: inputs).groups

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

    def default_presence(self) -> Presence:
        """Returns the calibration of the presence for a recipe without one; a wide guess by default."""
        return UNCALIBRATED

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

    def open(
        self, runtime: str | None = None, device: str | torch.device = "cpu", threads: int | None = None
    ) -> tuple[OnlineRules, Runtime]:
        """Puts the tracker into evaluation mode on a device, and returns its rules and what runs its network.

        Args:
            runtime: see `trackers.runtimes.choices`; None for "eager".
            device: torch device.
            threads: CPU threads of a runtime without PyTorch; None leaves the number to the runtime.

        Raises:
            TrackerError: the runtime is not known, not installed, or does not run on the device.
        """
        try:
            self.to(device).eval()
        except (RuntimeError, AssertionError) as error:  # an unknown name, no such GPU, a build without CUDA, no memory
            reason = str(error).partition("\n")[0]
            raise TrackerError(f"device={device} cannot be used: {reason}. Try device=cpu") from error
        return self.rules(), open_runtime(self.graphs(), runtime or "eager", device, threads)

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
        return normalise(pixels)

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
