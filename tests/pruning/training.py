"""Trainings of one second: modules to prune, data, all criteria with suitable settings, and a trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pruning import criteria
from pruning.callback import PruningCallback
from pruning.criteria import Criterion, Depth, Fisher, Magnitude, NetworkSlimming, Random, Slim, Taylor
from pruning.groups import Group
from pruning.schedules import Cubic
from tests.pruning.networks import BranchNet, ConvNet, NormNet, shake


class MapNet(NormNet):
    """`NormNet` with outputs by name; the first output does not depend on the input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"constant": self.out.bias.expand(2, 2), "out": super().forward(x)}


class MapBranches(BranchNet):
    """`BranchNet` with outputs by name."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": super().forward(x)}


class MapConv(ConvNet):
    """`ConvNet` with pictures that are made of 6 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(x.view(-1, 1, 2, 3).repeat(1, 3, 2, 2))


class Regressor(L.LightningModule):
    """Module with a network, groups and a loss.

    Attributes:
        losses: losses of all steps.
        seen: outputs of all validations.
    """

    def __init__(self, fail_at: int | None = None, dtype: torch.dtype = torch.float64, lr: float = 1e-2):
        super().__init__()
        self.network = shake(self.build().to(dtype), 3)
        self.fail_at, self.lr = fail_at, lr
        self.losses: list[float] = []
        self.seen: list[Tensor] = []

    def build(self) -> nn.Module:
        return MapNet(width=12, hidden=16)

    def groups(self) -> list[Group]:
        return self.network.groups()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = (self.network(batch[0])["out"] - batch[1]).square().mean()
        self.losses.append(loss.item())
        if self.global_step == self.fail_at:
            raise ArithmeticError("as told")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen.append(self.network(batch[0])["out"].detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self.lr, weight_decay=0.05)


class BranchRegressor(Regressor):
    """Regressor with residual branches that may vanish."""

    def build(self) -> nn.Module:
        return MapBranches(width=12, hidden=16, depth=4)


class ConvRegressor(Regressor):
    """Regressor with batch norms whose statistics stay constant."""

    def build(self) -> nn.Module:
        return MapConv()

    def on_train_epoch_start(self) -> None:
        self.network.eval()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD((p for p in self.network.parameters() if p.requires_grad), lr=self.lr)


@dataclass(frozen=True)
class Method:
    """Criterion in tests, with options of the callback and a module that the criterion suits."""

    criterion: Callable[[], Criterion]
    options: dict[str, Any] = field(default_factory=dict)
    module: type[Regressor] = Regressor


METHODS = {
    "slim": Method(lambda: Slim(penalty={"default": 1e-2, "width": 1e-3})),
    "magnitude": Method(Magnitude, {"normalise": "mean"}),
    "network_slimming": Method(lambda: NetworkSlimming(penalty={"default": 1e-2}), {}, ConvRegressor),
    "taylor": Method(lambda: Taylor(memory=0.8)),
    "fisher": Method(lambda: Fisher(memory=0.8)),
    "random": Method(lambda: Random(seed=3), {"scope": {"default": "layer"}}),
    "depth": Method(lambda: Depth(memory=0.8), {"whole_branches": True, "ratio": 0.6}, BranchRegressor),
}
if hasattr(criteria, "ChipNet"):
    METHODS["chipnet"] = Method(criteria.ChipNet, {"kept_gates": "one"})


def pruning(method: str = "slim", **options: Any) -> PruningCallback:
    """Returns the callback for a stage of 24 steps, with default values of all other options."""
    given = METHODS[method]
    defaults = {"ratio": 0.4, "every": 4, "floor": 0.05, "schedule": Cubic(start=0.1, end=0.7)}
    return PruningCallback(**({"criterion": given.criterion()} | defaults | given.options | options))


def loader(batch: int = 4, batches: int = 6, dtype: torch.dtype = torch.float64) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch * batches, 6, generator=generator, dtype=torch.float64).to(dtype)
    return DataLoader(TensorDataset(x, x[:, :2].sin() + x[:, 2:4]), batch_size=batch)


def draws(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(8, 6, dtype=torch.float64, generator=generator)} for _ in range(count)]


def fit(module: Regressor, callbacks: Sequence[L.Callback], data: DataLoader, root: Path, **options: Any) -> L.Trainer:
    """Trains quietly on CPU; `val` and `resume` are given to `Trainer.fit`, all else to the trainer."""
    val, resume = options.pop("val", None), options.pop("resume", None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    keeps = any(isinstance(c, ModelCheckpoint) for c in callbacks)
    settings = {"max_epochs": 4, "devices": 1, "num_sanity_val_steps": 0, "enable_checkpointing": keeps}
    trainer = L.Trainer(callbacks=[*callbacks], default_root_dir=root, **(quiet | settings | options))
    trainer.fit(module, data, val, ckpt_path=resume, **({"weights_only": True} if resume else {}))
    return trainer


def weights(module: Regressor) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.network.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
