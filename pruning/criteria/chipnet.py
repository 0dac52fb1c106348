"""ChipNet: gates that harden over the stage, trained together with the cost that they leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.cost import Cost, Polynomial
from pruning.criteria.criterion import Criterion
from pruning.gates import Gates
from pruning.groups import Group


def logistic(psi: Tensor, beta: float) -> Tensor:
    """z_i in (0, 1), the intermediate gate."""
    return torch.sigmoid(beta * psi)


def heaviside(z: Tensor, gamma: float) -> Tensor:
    """z_t in [0, 1], the gate: a continuous Heaviside step of z_i, sharper for larger gamma."""
    return 1 - torch.exp(-gamma * z) + z * math.exp(-gamma)


def smooth_round(z: Tensor, steepness: float) -> Tensor:
    """What a gate counts as: about 0 below 0.5 and about 1 above."""
    return torch.sigmoid(steepness * (z - 0.5))


def remaining(cost: Polynomial, z: Tensor, sizes: Sequence[int], steepness: float) -> Tensor:
    """V, the fraction of the cost that gates leave.

    Args:
        cost: in kept counts by group.
        z: gates of all units, group after group, (units,).
        sizes: number of units by group.
        steepness: of the rounding of gates to counts.
    """
    counts = torch.stack([part.sum() for part in smooth_round(z, steepness).double().split(list(sizes))])
    return cost(counts) / cost(sizes)


@dataclass(frozen=True)
class Sharpness:
    """How hard gates are at one moment: `beta` of the logistic, `gamma` of the Heaviside, `steepness` of rounding."""

    beta: float
    gamma: float
    steepness: float


@dataclass(frozen=True)
class Hardening:
    """How sharpness grows over the stage, which stands for the reference's epochs, whatever its length in steps.

    Beta and gamma grow from epoch to epoch, steepness all the time (by 5 an epoch). They end at 6, 256 and 60.

    Attributes:
        epochs: how many the stage stands for.
        beta, gamma, steepness: in the first step.
        beta_epochs: in so many epochs beta grows by 0.1.
        gamma_epochs: in so many epochs gamma doubles.
    """

    epochs: int = 20
    beta: float = 1.0
    gamma: float = 2.0
    steepness: float = 10.0
    beta_epochs: float = 5.0
    gamma_epochs: float = 2.0

    def __call__(self, progress: float) -> Sharpness:
        """Sharpness of a step at `progress` in [0, 1] of the stage."""
        passed = progress * self.epochs
        epoch = int(passed + 1e-9)  # 3 * (1 / 3) must not count as the epoch before
        return Sharpness(
            min(6.0, self.beta + 0.1 / self.beta_epochs * epoch),
            min(256.0, self.gamma * 2 ** (epoch / self.gamma_epochs)),
            min(60.0, self.steepness + 5 * passed),
        )


class ChipNet(Criterion):
    """Gates z_t = heaviside(logistic(psi)) of trained psi, which a loss drives to the ratio (Tiwari et al., ICLR 2021).

    The loss of the stage gains budget * (V - ratio)^2 + crispness * mean((z_t - z_i)^2), where V is the fraction that
    gates leave of the very cost that the ratio is of. All gates start at 0.7 and harden to 0 or 1. Which units stay is
    still decided by rank, so that the ratio is met exactly. The reference closes none before the stage ends, and then
    sets kept gates to 1 (`kept_gates: one`).

    Like those of `Slim`, gates see gradients after these were reduced, and stay equal on all ranks.

    Args:
        budget, crispness: weights of the two losses.
        travel: how far psi may move over the stage: the learning rate of Adam is `travel / steps`. The reference's is
            1e-3 in each of 28,140 steps (20 epochs of 45,000 pictures, in batches of 32). The hardest gates are closed
            below a psi of about -4; with a travel of 5, which noise and detours use up, all stay open.
        hardening: sharpness over the stage.
        seed: of the first psi, uniform in [0, 0.01).
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
            raise ValueError(
                f"pruning.criterion.budget={budget}, crispness={crispness} and travel={travel} must not be negative, "
                "and psi has to travel: the reference's are 30, 10 and 28"
            )
        self.budget, self.crispness, self.travel = budget, crispness, travel
        self.hardening, self.seed = hardening, seed

    def check(self, groups: Sequence[Group], ratio_of: str) -> None:
        """Refuses a ratio of latency, which is a table and has no derivative."""
        if ratio_of == "latency":
            raise ValueError(
                "ChipNet learns gates by the derivative of what the ratio is of, and latency has none; choose "
                "pruning.ratio_of=macs, params or units"
            )

    def start(self, gates: Gates, cost: Cost, ratio: float, steps: int) -> None:
        """Draws psi."""
        self.cost, self.ratio, self.sharpness = cost, ratio, self.hardening(0.0)
        psi = 0.01 * torch.rand(len(gates.values), generator=torch.Generator().manual_seed(self.seed))
        self.psi = nn.Parameter(psi.to(gates.values))
        self.optimizer = torch.optim.Adam([self.psi], lr=self.travel / steps)

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Softplus of psi by group: ranks as z_t does, without its ties (in float32 most kept gates are exactly 1).

        Raises:
            RuntimeError: there was no stage.
        """
        if not hasattr(self, "psi"):
            raise RuntimeError("ChipNet ranks by gates that a training learns; run a sparsity stage (stages.sparsity)")
        return gates.split(F.softplus(self.psi.detach()))

    def before_step(self, gates: Gates, progress: float) -> None:
        """Hardens the gates and hands them over."""
        self.sharpness = self.hardening(progress)
        gates.values.data.copy_(self.soft_gates()[1].detach())

    @torch.enable_grad()
    def after_step(self, gates: Gates) -> None:
        """Moves psi, unless gradients overflowed: a loss scaler skips this step of the weights then, too."""
        z_i, z_t = self.soft_gates()
        (gradient,) = torch.autograd.grad([z_t, self.penalty(gates, z_i, z_t)], self.psi, [gates.values.grad, None])
        if gradient.isfinite().all():
            self.psi.grad = gradient
            self.optimizer.step()

    def soft_gates(self) -> tuple[Tensor, Tensor]:
        """z_i and z_t at the present sharpness, each (units,)."""
        z_i = logistic(self.psi, self.sharpness.beta)
        return z_i, heaviside(z_i, self.sharpness.gamma)

    def penalty(self, gates: Gates, z_i: Tensor, z_t: Tensor) -> Tensor:
        """What the loss of the stage gains."""
        left = remaining(self.cost, z_t, gates.sizes, self.sharpness.steepness)
        return self.budget * (left - self.ratio).square() + self.crispness * (z_t - z_i).square().mean()

    def state_dict(self) -> dict[str, Any]:
        """Psi and its optimiser's state; sharpness follows from the progress."""
        return {"psi": self.psi.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self.psi.data.copy_(state["psi"])
        self.optimizer.load_state_dict(state["optimizer"])
