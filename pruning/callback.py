"""The Lightning callback that anneals masks: what turns any training into a sparsity stage."""

import math
from typing import Any

import pytorch_lightning as L
from torch import Tensor, nn

from pruning.plan import Plan
from pruning.pruner import Pruner
from pruning.schedules import Schedule


class PruningCallback(Pruner, L.Callback):
    """A pruner that follows a schedule while Lightning trains: folds gates around every step, and anneals the mask.

    It works on `module.network`, `module.groups()` and (for MACs and latency) `module.frame_inputs` of any
    LightningModule, and leaves module, losses and optimiser as they are. At ratio 1 it does nothing at all.

    Args:
        schedule: ratio over the stage's progress.
        every: steps between two updates of the mask.
        decay: whether units leave step by step until the next update, instead of at once: the loss has no jumps.
        options: of the `Pruner`.
    """

    def __init__(self, schedule: Schedule, every: int = 20, decay: bool = True, **options: Any):
        super().__init__(**options)
        if every < 1:
            raise ValueError(f"pruning.every={every} must be at least 1: it is the number of steps between two masks")
        self.schedule, self.every, self.decay = schedule, every, decay
        self._state: dict[str, Any] | None = None
        self._frozen: list[nn.Parameter] = []

    # Lightning hooks, in the order of a stage

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Builds the gates, or brings them back when a stage is resumed."""
        if self.ratio == 1:
            return
        self.attach(pl_module.network, pl_module.groups(), getattr(pl_module, "frame_inputs", None))
        self.total_steps = trainer.estimated_stepping_batches
        if not math.isfinite(self.total_steps):
            raise ValueError("pruning follows the progress of its stage; set trainer.max_epochs or trainer.max_steps")
        self.before, self.updated = Plan(), 0
        # Weights that are not trained still have to tell their gates what these are worth.
        frozen = [p for p in self.gates.parameters() if not p.requires_grad]
        self._frozen = frozen if self.criterion.needs_gradients else []
        for p in self._frozen:
            p.requires_grad_(True)
        self.criterion.start(self.gates, self.cost, self.ratio, self.total_steps)
        if self._state is not None:
            self._restore(self._state)
            self._state = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Updates the mask when it is time, then folds; between accumulated batches the gates stay folded."""
        if not self._pruning or self.gates.is_folded:
            return
        step = trainer.global_step
        self.criterion.before_step(self.gates, step / self.total_steps)
        if step % self.every == 0:
            self._anneal(trainer)
        self._fade(trainer)
        self.gates.fold()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Unfolds, once a step: after gradients were accumulated and reduced, before they are clipped."""
        if not self._pruning:
            return
        gates, learns = self.gates, self.criterion.needs_gradients
        gates.unfold(gate_gradients=learns)
        for p in self._frozen:  # no optimiser knows them, so nobody else would clear their gradients
            p.grad = None
        if learns:  # those of weights that are not trained were not reduced
            gates.values.grad = trainer.strategy.reduce(gates.values.grad, reduce_op="mean")
        self.criterion.after_step(gates)
        gates.values.grad = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation sees what the child will be, also while units are on their way out."""
        if not self._pruning:
            return
        self._between_batches = self.gates.is_folded
        if self._between_batches:
            self.gates.restore()
        self.gates.close(self.plan)
        self.gates.fold()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Back to the weights, or, between accumulated batches, to those of the running step."""
        if not self._pruning:
            return
        self.gates.restore()
        if self._between_batches:
            self._fade(trainer)
            self.gates.fold()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exactly the asked ratio, also after a schedule that ended above it."""
        if not self._pruning:
            return
        if self.gates.is_folded:
            self.gates.unfold()
        self._update(trainer, self.ratio)
        self._freeze()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Never leaves gated weights behind."""
        if self._pruning:
            if self.gates.is_folded:
                self.gates.restore()
            self._freeze()

    # One training for all ratios

    @property
    def ranks_once(self) -> bool:
        """Whether the training is the same for every ratio: it is dense to its end, and the criterion's is, too."""
        return self.schedule.cuts_at_end and not self.criterion.knows_ratio

    def learned(self) -> dict[str, Any]:
        """What the training says of the units, for `recall` at another ratio; of the network as it ended."""
        return {"values": self.gates.values.detach().clone(), "criterion": self.criterion.state_dict()}

    def recall(self, learned: dict[str, Any]) -> None:
        """Goes on from the end of a training, after `attach` to the network as it ended; `update` and `finish` follow.

        Args:
            learned: see `learned`.
        """
        self.criterion.start(self.gates, self.cost, self.ratio, 1)
        self.gates.values.data.copy_(learned["values"])
        self.criterion.load_state_dict(learned["criterion"])

    # Resuming

    def state_dict(self) -> dict[str, Any]:
        """Plan, gates and what the criterion has learned: enough to go on with the same masks."""
        if not self._pruning:
            return {}
        return {
            "plan": self.plan.to_dict(),
            "before": self.before.to_dict(),
            "planned": self.planned,
            "updated": self.updated,
            **self.learned(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the gates exist."""
        self._state = state_dict

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds the weights themselves, also when it is written while the gates are folded."""
        if not self._pruning:
            return
        saved = checkpoint["state_dict"]
        own = {f"network.{name}": weight for name, weight in self.gates.own_weights().items()}
        saved |= {name: weight.clone() for name, weight in own.items() if name in saved}

    # Inside

    @property
    def _pruning(self) -> bool:
        return hasattr(self, "gates")

    def _freeze(self) -> None:
        for p in self._frozen:
            p.requires_grad_(False)

    def _fade(self, trainer: L.Trainer) -> None:
        """The mask of the running step."""
        if self.decay:
            self.gates.close(self.plan, self.before, (trainer.global_step - self.updated + 1) / self.every)

    def _restore(self, state: dict[str, Any]) -> None:
        self.gates.values.data.copy_(state["values"])
        self.criterion.load_state_dict(state["criterion"])
        self.plan, self.planned = Plan.from_dict(state["plan"]), state["planned"]
        self.before, self.updated = Plan.from_dict(state["before"]), state["updated"]
        self.gates.close(self.plan)

    def _update(self, trainer: L.Trainer, ratio: float) -> None:
        """A new mask, the same on all ranks: rank 0 decides where they differ, as in the times that each measures."""
        self.update(ratio)
        if trainer.world_size > 1:
            self.plan = Plan.from_dict(trainer.strategy.broadcast(self.plan.to_dict()))
        self.gates.close(self.plan)

    def _anneal(self, trainer: L.Trainer) -> None:
        ratio = self.schedule(trainer.global_step / self.total_steps, self.ratio)
        old: Tensor = self.gates.mask.clone()
        self.before, self.updated = self.plan, trainer.global_step
        self._update(trainer, ratio)
        churn = (old != self.gates.mask).float().mean()
        log = {"ratio_asked": ratio, "ratio_achieved": self.achieved, "mask_churn": float(churn)}
        log |= {f"kept/{name}": float(count) for name, count in self.kept().items()}
        for logger in trainer.loggers:
            logger.log_metrics({f"pruning/{k}": v for k, v in log.items()}, step=trainer.global_step)
