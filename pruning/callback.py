"""The Lightning callback that anneals masks: what turns any training into a sparsity stage."""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn

from pruning.budget import check_ratio, fit
from pruning.cost import ParamCost, UnitCost
from pruning.criteria import Criterion, quantiles
from pruning.gates import Gates
from pruning.groups import Group, check_groups
from pruning.plan import Plan
from pruning.schedules import Schedule
from pruning.surgery import compact

COSTS = {"params": ParamCost, "units": lambda network, groups: UnitCost()}


class PruningCallback(L.Callback):
    """Folds gates around every step, learns them if the criterion needs it, and anneals masks to `ratio`.

    It works on `module.network` and `module.groups()` of any LightningModule and leaves module, losses and optimiser
    as they are. Gates have an optimiser of their own: as they see gradients after these were reduced, they stay equal
    on all ranks. A criterion that learns nothing needs no training:

        callback.attach(network, groups)
        callback.update(ratio)
        callback.finish(network, draws)

    Args:
        ratio: fraction to keep, in (0, 1].
        ratio_of: "params" (of the whole network) or "units" (of the prunable units alone: the paper's budget).
        criterion: ranks units.
        schedule: ratio over the stage's progress.
        every: steps between two updates of the mask.
        scope: pool by kind for ranking, see `criteria.quantiles`.
        floor: smallest share of a group, see `budget.fit`.
        penalty: weight of the l1 penalty on what the criterion scores (gates, scales of batch norms), by kind, with
            "default" for all others.
        gate_travel: how far a gate may move over the stage, in units of its initial value 1. Adam moves a gate by about
            its learning rate a step, so the rate is `gate_travel / steps`; below 1, no gate can reach 0.
        kinds: kinds of groups to prune; None for all.
        kept_gates: what the gates of kept units have learned is multiplied into the child's weights ("fold"), or left
            behind, as ViT-Slim and the ICASSP 2023 paper do ("one").

    Attributes:
        gates: those of the attached network.
        plan, planned: the mask now, and the ratio that it was planned for.
    """

    def __init__(
        self,
        ratio: float,
        criterion: Criterion,
        schedule: Schedule,
        ratio_of: str = "params",
        every: int = 20,
        scope: Mapping[str, str] | None = None,
        floor: float = 0.1,
        penalty: Mapping[str, float] | None = None,
        gate_travel: float = 2.0,
        kinds: Sequence[str] | None = None,
        kept_gates: str = "fold",
    ):
        check_ratio(ratio)
        if ratio_of not in COSTS:
            raise ValueError(f"ratio_of={ratio_of} is not known; choose one of {sorted(COSTS)}")
        if every < 1:
            raise ValueError(f"every={every} must be at least 1: it is the number of steps between two masks")
        if kept_gates not in ("fold", "one"):
            raise ValueError(f"kept_gates={kept_gates} is not known; choose one of ['fold', 'one']")
        self.ratio, self.ratio_of, self.criterion, self.schedule = ratio, ratio_of, criterion, schedule
        self.every, self.scope, self.floor = every, dict(scope or {"default": "global"}), floor
        self.penalty, self.gate_travel, self.kinds = dict(penalty or {}), gate_travel, kinds
        self.kept_gates = kept_gates
        self._state: dict[str, Any] | None = None

    # What is pruned

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The groups of the chosen kinds.

        Raises:
            ValueError: a chosen kind that no group has, or a penalty or scope for one that is nearly spelt like theirs.
                (One for quite another kind stays without effect: one configuration serves several networks.)
        """
        have = {g.kind for g in groups}
        for option, named in (("kinds", self.kinds or ()), ("penalty", self.penalty), ("scope", self.scope)):
            missing = sorted({*named} - {*have, "default"})
            if option != "kinds":
                missing = [name for name in missing if get_close_matches(name, have, cutoff=0.75)]
            if missing:
                raise ValueError(
                    f"pruning.{option} names {missing}; this network has groups of the kinds {sorted(have)}"
                )
        return [g for g in groups if self.kinds is None or g.kind in self.kinds]

    def check(self, network: nn.Module, groups: Sequence[Group]) -> None:
        """Raises ValueError if the target cannot be reached, before anything is trained. Only shapes are read."""
        chosen = self.select(check_groups(network, groups))
        places = self._places({g.name: torch.ones(g.size) for g in chosen}, chosen)
        fit(chosen, places, COSTS[self.ratio_of](network, chosen), self.ratio, self.floor)

    def attach(self, network: nn.Module, groups: Sequence[Group]) -> None:
        """Puts open gates on the chosen ones of a network's groups. A training does it when it starts."""
        self.gates = Gates(network, self.select(groups))
        self.cost = COSTS[self.ratio_of](network, self.gates.groups)
        self.plan, self.planned = Plan(), 1.0
        # Weights that are not trained still have to tell their gates what these are worth.
        frozen = [p for p in self.gates.parameters() if not p.requires_grad]
        self._frozen = frozen if self.criterion.learns_gates else []
        for p in self._frozen:
            p.requires_grad_(True)

    def update(self, ratio: float) -> None:
        """Plans for `ratio` by the present scores and closes the gates of all units that leave.

        Nothing changes while the ratio stands still: weights that train at the final mask must not lose it again.

        Raises:
            ValueError: the ratio is not in (0, 1] or out of reach, see `budget.fit`.
        """
        if ratio == self.planned:
            return
        groups = self.gates.groups
        self.plan = fit(groups, self._places(self.criterion(self.gates), groups), self.cost, ratio, self.floor)
        self.planned = ratio
        self.gates.close(self.plan)

    def finish(self, network: nn.Module, inputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Turns the masked network into the compacted one, in place, and checks that they are the same.

        Args:
            network: the one that the gates are on.
            inputs: draws of the arguments of its forward, on which masked and compacted outputs are compared. Take
                several for a network that makes discrete choices: rounding may flip one on a single draw, while a wrong
                declaration shows on all.

        Returns:
            "masked_vs_compacted", the largest difference relative to the largest output (median over the draws), and
            "ratio_achieved".

        Raises:
            ValueError: there are no inputs.
            RuntimeError: the outputs differ by more than float rounding can explain, or are not finite in some draw.
        """
        if not inputs:
            raise ValueError("inputs=[] compares nothing; give at least one draw of the network's arguments")
        gates = self.gates.to(next(network.parameters()).device)
        if self.kept_gates == "one":
            gates.values.data.fill_(1)
        network.eval()
        with torch.no_grad():
            with gates.folded():
                masked = [network(**draw) for draw in inputs]
            gates.bake()
            compact(network, gates.groups, self.plan)
            errors = torch.stack([_difference(m, network(**d)) for m, d in zip(masked, inputs, strict=True)])
        error = float(errors.quantile(0.5) if errors.isfinite().all() else errors.max())  # a nan is the maximum
        if not error < 1e-3:
            raise RuntimeError(
                f"the compacted network differs from the masked one by {error:.1e}: "
                "some group does not declare all that it cuts"
            )
        del self.gates  # they describe the network before it was cut
        achieved = self.cost([len(self.plan.units(g)) for g in gates.groups]) / self.cost(gates.sizes)
        return {"masked_vs_compacted": error, "ratio_achieved": achieved}

    def _places(self, scores: Mapping[str, Tensor], groups: Sequence[Group]) -> dict[str, Tensor]:
        kinds = {"default", *(g.kind for g in groups)}
        return quantiles(scores, groups, {kind: pool for kind, pool in self.scope.items() if kind in kinds})

    # Lightning hooks, in the order of a stage

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Builds the gates, or brings them back when a stage is resumed."""
        self.attach(pl_module.network, pl_module.groups())
        self.total_steps = trainer.estimated_stepping_batches
        if not math.isfinite(self.total_steps):
            raise ValueError("pruning follows the progress of its stage; set trainer.max_epochs or trainer.max_steps")
        self.optimizer = torch.optim.Adam([self.gates.values], lr=self.gate_travel / self.total_steps)
        weights = [self.penalty.get(g.kind, self.penalty.get("default", 0.0)) for g in self.gates.groups]
        self.weights = torch.tensor(weights, device=self.gates.values.device).repeat_interleave(
            torch.tensor(self.gates.sizes, device=self.gates.values.device)
        )
        if self._state is not None:
            self._restore(self._state)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Updates the mask when it is time, then folds; between accumulated batches the gates stay folded."""
        if self.gates.is_folded:
            return
        if trainer.global_step % self.every == 0:
            self._anneal(trainer, pl_module)
        self.gates.fold()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Unfolds, once a step: after gradients were accumulated and reduced, before they are clipped."""
        self.gates.unfold()
        for p in self._frozen:  # no optimiser knows them, so nobody else would clear their gradients
            p.grad = None
        self.criterion.penalise(self.gates, self.weights)
        if self.criterion.learns_gates:
            if self.gates.values.grad.isfinite().all():  # else a loss scaler skips this step of the weights, too
                self.optimizer.step()
            self.gates.values.data.clamp_(min=0)  # a step past 0 would make the penalty push the gate back up
        self.optimizer.zero_grad()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation sees the masked network: with folded gates, what the child will be."""
        self._unfold_after_validation = hasattr(self, "gates") and not self.gates.is_folded
        if self._unfold_after_validation:
            self.gates.fold()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Back to the weights."""
        if self._unfold_after_validation:
            self.gates.unfold()
            self.optimizer.zero_grad()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exactly the asked ratio, also after a schedule that ended above it."""
        if self.gates.is_folded:
            self.gates.unfold()
        self.update(self.ratio)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Never leaves gated weights behind."""
        if hasattr(self, "gates") and self.gates.is_folded:
            self.gates.unfold()

    # Resuming

    def state_dict(self) -> dict[str, Any]:
        """Plan, gates and their optimiser: enough to go on with the same masks."""
        if not hasattr(self, "gates"):
            return {}
        return {
            "plan": self.plan.to_dict(),
            "planned": self.planned,
            "values": self.gates.values.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the gates exist."""
        self._state = state_dict

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds the weights themselves, also when it is written while the gates are folded."""
        saved = checkpoint["state_dict"]
        own = {f"network.{name}": weight for name, weight in self.gates.own_weights().items()}
        saved |= {name: weight.clone() for name, weight in own.items() if name in saved}

    # Inside

    def _restore(self, state: dict[str, Any]) -> None:
        self.gates.values.data.copy_(state["values"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.plan, self.planned = Plan.from_dict(state["plan"]), state["planned"]
        self.gates.close(self.plan)

    def _anneal(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        ratio = self.schedule(trainer.global_step / self.total_steps, self.ratio)
        before: Tensor = self.gates.mask.clone()
        self.update(ratio)
        counts = {g.name: len(self.plan.units(g)) for g in self.gates.groups}
        reached = self.cost(list(counts.values())) / self.cost(self.gates.sizes)
        churn = (before != self.gates.mask).float().mean()
        log = {"ratio_asked": ratio, "ratio_achieved": reached, "mask_churn": float(churn)}
        log |= {f"kept/{name}": float(count) for name, count in counts.items()}
        for logger in trainer.loggers:
            logger.log_metrics({f"pruning/{k}": v for k, v in log.items()}, step=trainer.global_step)


def _difference(masked: Mapping[str, Tensor], compacted: Mapping[str, Tensor]) -> Tensor:
    """The largest difference relative to the largest entry of its output; nan stays nan, as it would not in Python."""
    differences = []
    for key, reference in masked.items():
        scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)  # two outputs of zeros are the same
        differences.append(((compacted[key] - reference).abs().max() / scale).float())
    return torch.stack(differences).max()
