"""Lightning callback that makes a sparsity stage of any training: it folds gates and updates the mask."""

import math
from typing import Any

import pytorch_lightning as L
from torch import Tensor, nn

from pruning.arguments import InputFunction, first_argument
from pruning.discovery.finding import find_groups
from pruning.discovery.reasons import no_groups_error
from pruning.errors import PruningError
from pruning.groups import Group
from pruning.groups.data import from_data, to_data
from pruning.lightning_network import inputs_of, network_of
from pruning.plan import Plan
from pruning.pruner import Pruner
from pruning.schedules import Schedule


class PruningCallback(Pruner, L.Callback):
    """Pruner that follows a schedule while Lightning trains: it folds gates around every step and updates the mask.

    The network is `network` of the LightningModule, or the LightningModule itself if it has no such attribute. Its
    groups are those that `groups()` of the LightningModule returns; without this method they are found. The arguments
    of the network's forward come from `inputs`, from `frame_inputs(network)` of the LightningModule, or from its
    `example_input_array`. Module, losses and optimizer stay as they are. At ratio 1 the callback does nothing.

    Args:
        schedule: ratio as a function of the progress of the stage.
        every: training steps between two updates of the mask.
        decay: whether the gates of removed units close step by step until the next update, so that the loss does not
            jump; otherwise they close at once.
        inputs: returns the arguments of a forward of the network by name, as for `Pruner.attach`.
        options: further arguments, see `Pruner`.

    Attributes:
        total_steps: training steps of the stage.
        before: plan before the last update of the mask.
        updated: step of the last update of the mask.
    """

    def __init__(
        self,
        schedule: Schedule,
        every: int = 20,
        decay: bool = True,
        inputs: InputFunction | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        if not callable(schedule) or isinstance(schedule, type):
            raise PruningError(
                f"pruning.schedule={getattr(schedule, '__name__', schedule)} is no schedule; give Linear(), or set "
                "pruning.schedule._target_=pruning.schedules.Linear"
            )
        if not isinstance(every, int) or every < 1:
            raise PruningError(
                f"pruning.every={every!r} must be at least 1: it is the number of steps between two updates of the mask"
            )
        self.schedule, self.every, self.decay, self.inputs = schedule, every, decay, inputs
        self._state: dict[str, Any] | None = None
        self._frozen: list[Tensor] = []
        self._found: list[Group] = []

    # Lightning hooks, in the order of a stage

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Builds the gates and restores their state if the stage is resumed."""
        if self.ratio == 1:
            return
        declared = getattr(pl_module, "groups", None)
        network, inputs = network_of(pl_module), self.inputs or inputs_of(pl_module)
        if callable(declared):
            self.attach(network, declared(), inputs)
        else:
            self._attach_found(trainer, pl_module, inputs)
        steps = trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise PruningError(
                "pruning follows the progress of its stage, but the Trainer has no end; pass it max_steps or max_epochs"
            )
        self.total_steps, self.before, self.updated = int(steps), Plan(), 0
        # Gates of weights that are not trained need gradients as well.
        frozen = [p for p in self.gates.parameters() if not p.requires_grad]
        self._frozen = frozen if self.criterion.needs_gradients else []
        for p in self._frozen:
            p.requires_grad_(True)
        self.criterion.start(self.gates, self.cost, self.ratio, self.total_steps)
        if self._state is not None:
            self._restore(self._state)
            self._state = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        """Updates the mask if it is due and folds the gates, which stay folded between accumulated batches."""
        if not self._pruning or self.gates.is_folded:
            return
        step = trainer.global_step
        self.criterion.before_step(self.gates, step / self.total_steps)
        if step % self.every == 0:
            self._anneal(trainer)
        self._decay_mask(trainer)
        self.gates.fold()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        """Unfolds the gates once per step: after gradients are accumulated and reduced, before they are clipped."""
        if not self._pruning:
            return
        gates, needs_gradients = self.gates, self.criterion.needs_gradients
        _unscale(trainer, self._frozen)
        gates.unfold(gate_gradients=needs_gradients)
        for p in self._frozen:  # no optimizer holds these parameters, so nothing else clears their gradients
            p.grad = None
        if needs_gradients:  # gradients from frozen weights have not been reduced over the ranks
            gates.values.grad = trainer.strategy.reduce(gates.values.grad, reduce_op="mean")
        self.criterion.after_step(gates)
        gates.values.grad = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Folds the gates with the mask fully closed, so that validation measures the network after the cut."""
        if not self._pruning:
            return
        self._between_batches = self.gates.is_folded
        if self._between_batches:
            self.gates.restore()
        self.gates.close(self.plan)
        self.gates.fold()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restores the weights; between accumulated batches it restores the gated weights of the running step."""
        if not self._pruning:
            return
        self.gates.restore()
        if self._between_batches:
            self._decay_mask(trainer)
            self.gates.fold()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Updates the mask to the final ratio, even if the schedule has not reached it.

        The last row of the log has the ratio of the cut, so that it agrees with the result.
        """
        if not self._pruning:
            return
        if self.gates.is_folded:
            self.gates.unfold()
        self._update_and_log(trainer, self.ratio)
        self._freeze()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restores the ungated weights after an error."""
        if self._pruning:
            if self.gates.is_folded:
                self.gates.restore()
            self._freeze()

    # Reuse of one sparsity stage for all ratios

    @property
    def ranks_once(self) -> bool:
        """Whether the training is independent of the ratio, so that one ranking serves all ratios."""
        return self.schedule.cuts_at_end and not self.criterion.knows_ratio

    def ranking_state(self) -> dict[str, Any]:
        """Returns the learned gates and the state of the criterion, for `load_ranking` at another ratio."""
        return {"values": self.gates.values.detach().clone(), "criterion": self.criterion.state_dict()}

    def load_ranking(self, state: dict[str, Any]) -> None:
        """Loads the result of `ranking_state`. Call it after `attach` to the trained network and before `update`."""
        self.criterion.start(self.gates, self.cost, self.ratio, 1)
        self.gates.values.data.copy_(state["values"])
        self.criterion.load_state_dict(state["criterion"])

    # Resuming

    def state_dict(self) -> dict[str, Any]:
        """Returns plans, gates and the state of the criterion, from which a resumed stage continues."""
        if not self._pruning:
            return {}
        return {
            "plan": self.plan.to_dict(),
            "before": self.before.to_dict(),
            "planned": self.planned_ratio,
            "updated": self.updated,
            **({"groups": [to_data(g) for g in self._found]} if self._found else {}),
            **self.ranking_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until `on_fit_start` has built the gates."""
        self._state = state_dict

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the ungated weights into a checkpoint that is written while the gates are folded."""
        if not self._pruning:
            return
        saved, tensors = checkpoint["state_dict"], _named_tensors(self.gates.network)
        ungated = {tensors[name]: weight for name, weight in self.gates.ungated_weights().items()}
        for name, tensor in _named_tensors(pl_module).items():  # a tensor may have several names
            if name in saved and tensor in ungated:
                saved[name] = ungated[tensor].clone()

    # Helpers

    def _attach_found(self, trainer: L.Trainer, module: L.LightningModule, inputs: InputFunction | None) -> None:
        """Attaches the network with the groups of a resumed stage, or with those that are found in the network.

        All ranks use the groups of rank 0, and a resumed stage its own, as trial cuts with other weights or on
        another device might decide otherwise.

        Raises:
            PruningError: nothing gives the arguments of a forward, or no group is found.
        """
        if inputs is None:
            name = type(module).__name__
            raise PruningError(
                f"{name} has no groups(), so they are found in a run of its network, but nothing gives the arguments "
                f"of the forward: set self.example_input_array = torch.zeros(1, 3, 32, 32) in {name}.__init__, or pass "
                f"inputs=lambda network: {{{first_argument(network_of(module))!r}: torch.zeros(1, 3, 32, 32)}} to the "
                "callback"
            )
        network, saved = network_of(module), (self._state or {}).get("groups")
        if saved is None:
            found = find_groups(network, inputs)
            saved = [to_data(group) for group in found.groups]
            if trainer.world_size > 1:
                saved = trainer.strategy.broadcast(saved)
            if not saved:
                raise no_groups_error(type(network).__name__, found.whole)
        groups = [from_data(data) for data in saved]
        self.attach(network, groups, inputs)
        self._found = groups

    @property
    def _pruning(self) -> bool:
        """Whether there are gates: not at ratio 1, and not before the stage starts."""
        return hasattr(self, "gates")

    def _freeze(self) -> None:
        """Freezes again the parameters to which `on_fit_start` gave gradients."""
        for p in self._frozen:
            p.requires_grad_(False)

    def _decay_mask(self, trainer: L.Trainer) -> None:
        """Moves the mask of the running step from the previous plan to the present plan, if `decay` is set."""
        if self.decay:
            self.gates.close(self.plan, self.before, (trainer.global_step - self.updated + 1) / self.every)

    def _restore(self, state: dict[str, Any]) -> None:
        """Loads the result of `state_dict` into the gates and the criterion."""
        self.gates.values.data.copy_(state["values"])
        self.criterion.load_state_dict(state["criterion"])
        self.plan, self.planned_ratio = Plan.from_dict(state["plan"]), state["planned"]
        self.before, self.updated = Plan.from_dict(state["before"]), state["updated"]
        self.gates.close(self.plan)

    def _update(self, trainer: L.Trainer, ratio: float) -> None:
        """Updates the mask; all ranks use the plan of rank 0, as measured latencies differ between ranks."""
        self.update(ratio)
        if trainer.world_size > 1:
            self.plan = Plan.from_dict(trainer.strategy.broadcast(self.plan.to_dict()))
        self.gates.close(self.plan)

    def _anneal(self, trainer: L.Trainer) -> None:
        """Updates the mask to the ratio of the schedule."""
        self.before, self.updated = self.plan, trainer.global_step
        self._update_and_log(trainer, self.schedule(trainer.global_step / self.total_steps, self.ratio))

    def _update_and_log(self, trainer: L.Trainer, ratio: float) -> None:
        """Updates the mask and logs the ratio, the change of the mask and the kept units."""
        old: Tensor = self.gates.mask.clone()
        self._update(trainer, ratio)
        churn = (old != self.gates.mask).float().mean()
        log = {"ratio_asked": ratio, "ratio_achieved": self.ratio_achieved, "mask_churn": float(churn)}
        log |= {f"kept/{name}": float(count) for name, count in self.kept_counts().items()}
        for logger in trainer.loggers:
            logger.log_metrics({f"pruning/{k}": v for k, v in log.items()}, step=trainer.global_step)


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns all parameters and buffers under all their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _unscale(trainer: L.Trainer, parameters: list[Tensor]) -> None:
    """Divides gradients by the scale of the loss. A loss scaler does so only for the parameters of an optimizer."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None:
        return
    unscaled = {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    for p in parameters:
        if p.grad is not None and p not in unscaled:
            p.grad /= scaler.get_scale()
