"""ChipNet: gates that harden over the stage, trained with the remaining cost in the loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.cost import Cost, Polynomial
from pruning.criteria.criterion import Criterion
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.groups import Group


def logistic(psi: Tensor, beta: float) -> Tensor:
    """Returns z_i in (0, 1), the intermediate gate of psi."""
    return torch.sigmoid(beta * psi)


def heaviside(z: Tensor, gamma: float) -> Tensor:
    """Returns z_t in [0, 1], the gate: a continuous Heaviside step of z_i that is sharper for larger gamma."""
    return 1 - torch.exp(-gamma * z) + z * math.exp(-gamma)


def smooth_round(z: Tensor, steepness: float) -> Tensor:
    """Returns the soft count of a gate: about 0 below 0.5 and about 1 above."""
    return torch.sigmoid(steepness * (z - 0.5))


def remaining_cost(cost: Polynomial, z: Tensor, sizes: Sequence[int], steepness: float) -> Tensor:
    """Returns V, the fraction of the dense cost that remains with the gates z.

    Args:
        cost: cost as a function of the kept counts.
        z: gates of all units, group after group, (units,).
        sizes: number of units of each group.
        steepness: steepness of the rounding of gates to counts.
    """
    counts = torch.stack([part.sum() for part in smooth_round(z, steepness).double().split(list(sizes))])
    return cost(counts) / cost(sizes)


@dataclass(frozen=True)
class Sharpness:
    """Hardness of the gates: `beta` of the logistic, `gamma` of the Heaviside step, `steepness` of the rounding."""

    beta: float
    gamma: float
    steepness: float


@dataclass(frozen=True)
class Hardening:
    """Growth of the sharpness over the stage.

    The stage is divided into the epochs of the reference, whatever its number of steps. Beta and gamma grow from epoch
    to epoch, steepness grows continuously (by 5 per epoch). They stop at 6, 256 and 60.

    Attributes:
        epochs: number of epochs of the reference.
        beta, gamma, steepness: values in the first step.
        beta_epochs: number of epochs in which beta grows by 0.1.
        gamma_epochs: number of epochs in which gamma doubles.
    """

    epochs: int = 20
    beta: float = 1.0
    gamma: float = 2.0
    steepness: float = 10.0
    beta_epochs: float = 5.0
    gamma_epochs: float = 2.0

    def __call__(self, progress: float) -> Sharpness:
        """Returns the sharpness at `progress` in [0, 1] of the stage."""
        passed = progress * self.epochs
        epoch = int(passed + 1e-9)  # the tolerance keeps rounding from giving the previous epoch
        return Sharpness(
            min(6.0, self.beta + 0.1 / self.beta_epochs * epoch),
            min(256.0, self.gamma * 2 ** (epoch / self.gamma_epochs)),
            min(60.0, self.steepness + 5 * passed),
        )


class ChipNet(Criterion):
    """Gates z_t = heaviside(logistic(psi)) of trained psi, driven to the ratio by a loss (Tiwari et al., ICLR 2021).

    The criterion adds budget * (V - ratio)^2 + crispness * mean((z_t - z_i)^2) to the loss. V is the remaining fraction
    of the cost that the ratio refers to. All gates start at 0.7 and harden to 0 or 1. The kept units are chosen by
    rank, so that the ratio is met exactly. The reference closes no gate before the end of the stage, and then sets the
    gates of kept units to 1 (`kept_gates: one`).

    Psi has its own optimizer. Gradients are averaged over ranks first, so gates stay equal on all ranks.

    Args:
        budget, crispness: weights of the two losses.
        travel: distance that psi can move over the stage: the learning rate of Adam is `travel / steps`. The reference
            uses 1e-3 in each of 28,140 steps (20 epochs of 45,000 pictures in batches of 32). At the end a gate is
            closed if psi is below about -4. With a travel of 5 all gates stay open, because noise moves psi back
            and forth.
        hardening: sharpness over the stage.
        seed: seed of the initial psi, uniform in [0, 0.01).
    """

    needs_gradients = True
    knows_ratio = True

    def __init__(
        self,
        budget: float = 30.0,
        crispness: float = 10.0,
        travel: float = 28.0,
        hardening: Hardening = Hardening(),
        seed: int = 0,
    ):
        if not (budget >= 0 and crispness >= 0 and travel > 0):
            raise PruningError(
                f"pruning.criterion.budget={budget} and crispness={crispness} must not be negative, and "
                f"travel={travel} must be positive; the reference uses 30, 10 and 28"
            )
        self.budget, self.crispness, self.travel = budget, crispness, travel
        self.hardening, self.seed = hardening, seed

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Raises PruningError for a ratio of latency, which is a table without a derivative."""
        if ratio_of == "latency":
            raise PruningError(
                "pruning.ratio_of=latency has no derivative, which ChipNet needs to learn gates; choose "
                "pruning.ratio_of=macs, params or units"
            )

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Draws the initial psi and builds its optimizer."""
        self.cost: Any = cost  # a polynomial, see `check`
        self.ratio, self.sharpness = ratio, self.hardening(0.0)
        psi = 0.01 * torch.rand(len(gates.values), generator=torch.Generator().manual_seed(self.seed))
        self.psi = nn.Parameter(psi.to(gates.values))
        self.optimizer = torch.optim.Adam([self.psi], lr=self.travel / steps)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns softplus(psi) by group name: the order of z_t without its ties (most open gates are exactly 1).

        Raises:
            PruningError: there has been no sparsity stage.
        """
        if not hasattr(self, "psi"):
            raise PruningError(
                "ChipNet ranks by learned gates, but has seen no training; train with a PruningCallback, or choose "
                "Magnitude(), which needs no training"
            )
        return gates.split(F.softplus(self.psi.detach()))

    def before_step(self, gates: Gates, progress: float) -> None:
        """Hardens the gates and writes them into `gates.values`."""
        self.sharpness = self.hardening(progress)
        gates.values.data.copy_(self.soft_gates()[1].detach())

    @torch.enable_grad()
    def after_step(self, gates: Gates) -> None:
        """Takes an optimizer step for psi, unless a gradient overflowed. A loss scaler skips the weights then, too."""
        z_i, z_t = self.soft_gates()
        (gradient,) = torch.autograd.grad([z_t, self.penalty(gates, z_i, z_t)], self.psi, [gates.gradients, None])
        if gradient.isfinite().all():
            self.psi.grad = gradient
            self.optimizer.step()

    def soft_gates(self) -> tuple[Tensor, Tensor]:
        """Returns z_i and z_t at the present sharpness, each (units,)."""
        z_i = logistic(self.psi, self.sharpness.beta)
        return z_i, heaviside(z_i, self.sharpness.gamma)

    def penalty(self, gates: Gates, z_i: Tensor, z_t: Tensor) -> Tensor:
        """Returns the loss that the criterion adds to that of the stage."""
        left = remaining_cost(self.cost, z_t, gates.sizes, self.sharpness.steepness)
        return self.budget * (left - self.ratio).square() + self.crispness * (z_t - z_i).square().mean()

    def state_dict(self) -> dict[str, Any]:
        """Returns psi and the state of its optimizer; the sharpness follows from the progress."""
        return {"psi": self.psi.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads the result of `state_dict`."""
        self.psi.data.copy_(state["psi"])
        self.optimizer.load_state_dict(state["optimizer"])
