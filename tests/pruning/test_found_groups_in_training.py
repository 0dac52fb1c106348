"""Trainings of LightningModules that know nothing of pruning."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pruning import Pruner, PruningError
from pruning.callback import PruningCallback
from pruning.criteria import Criterion, Magnitude, Slim
from pruning.schedules import Cubic
from tests.pruning.training import fit

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))


class Stranger(L.LightningModule):
    """A LightningModule as users write it, with a weight that has two names."""

    def __init__(self, example: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU())
        self.twin, self.head = self.model[2], nn.Linear(8, 2)
        self.example_input_array = example

    def forward(self, features: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(self.model(features * scale))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self(batch[0]) - batch[0][:, :2]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithNetwork(Stranger):
    """The same with an attribute `network`, whose forward takes other arguments than that of the module."""

    def __init__(self, example: Any = None) -> None:
        super().__init__(example)
        self.network = nn.Sequential(self.model, self.head)
        del self.model, self.head, self.twin

    def forward(self, features: Tensor, scale: float = 1.0) -> Tensor:
        return self.network(features * scale)


class Sums(nn.Module):
    """Adds up its entries one after the other, so that none of them can be removed."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)


class WithoutGroups(Stranger):
    """The same with a network of which nothing can be cut."""

    def __init__(self, example: Any = None) -> None:
        super().__init__(example)
        self.model = nn.Sequential(nn.Linear(6, 8), Sums())
        self.twin = self.model[0]


def loader() -> DataLoader:
    return DataLoader(TensorDataset(X), batch_size=4)


def callback(criterion: Criterion | None = None, **options: Any) -> PruningCallback:
    return PruningCallback(Cubic(0.1, 0.7), every=2, ratio=0.5, criterion=criterion or Slim(), **options)


@pytest.mark.parametrize(
    ("module", "example", "inputs"),
    [
        (Stranger, X[:1], None),
        (Stranger, {"features": X[:1], "scale": 2.0}, None),
        (Stranger, None, lambda network: {"features": X[:1]}),
        (WithNetwork, (X[:1], 2.0), None),
        (WithNetwork, None, lambda network: {"input": X[:1]}),
    ],
)
def test_one_callback_prunes_a_module_that_declares_nothing(
    module: type[Stranger], example: Any, inputs: Any, tmp_path: Path
) -> None:
    built, stage = module(example), callback(inputs=inputs)
    dense = sum(p.numel() for p in built.parameters())
    fit(built, [stage], loader(), tmp_path, max_epochs=1)
    name = "input" if module is WithNetwork else "features"
    report = stage.finish([{name: X}])
    assert report["masked_vs_compacted"] < 1e-5
    assert sum(p.numel() for p in built.parameters()) <= 0.5 * dense
    assert built(X).shape == (24, 2)


@pytest.mark.parametrize("module", [Stranger, WithNetwork])
def test_checkpoints_hold_ungated_weights_and_a_resumed_stage_goes_on(module: type[Stranger], tmp_path: Path) -> None:
    class Saving(L.Callback):
        """Saves a checkpoint while gates are folded, and the weights that it should hold."""

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.own = {n: t.clone() for n, t in pl_module.state_dict().items()}

        def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.global_step == 4:
                self.differs = not torch.equal(
                    pl_module.state_dict()[next(iter(self.own))], next(iter(self.own.values()))
                )
                trainer.save_checkpoint(tmp_path / "folded.ckpt")
                self.expected = self.own

    built, stage, saving = module(X[:1]), callback(), Saving()
    keeper = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    fit(built, [saving, stage, keeper], loader(), tmp_path, max_epochs=2)
    saved = torch.load(tmp_path / "folded.ckpt", weights_only=True)["state_dict"]
    assert saving.differs
    assert saved.keys() == saving.expected.keys()
    assert all(torch.equal(saved[n], t) for n, t in saving.expected.items())

    again, resumed = module(X[:1]), callback()
    fit(again, [resumed], loader(), tmp_path, max_epochs=2, resume=tmp_path / "epoch=0.ckpt")
    assert resumed.plan == stage.plan
    assert resumed.plan.kept
    assert resumed.groups == stage.groups
    assert torch.equal(resumed.gates.values, stage.gates.values)
    assert all(torch.equal(t, built.state_dict()[n]) for n, t in again.state_dict().items())


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (Stranger, None, "set self.example_input_array"),
        (Stranger, (X, X, X), "does not fit the forward of Stranger"),
        (WithNetwork, X[:, :2], "WithNetwork does not run with its example_input_array"),
        (WithoutGroups, X[:1], "no group of units of WithoutGroups can be cut: cumsum in model.*: 8 units"),
    ],
)
def test_a_module_that_cannot_be_pruned_says_what_it_lacks(
    module: type[Stranger], example: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(PruningError, match=message):
        fit(module(example), [callback(Magnitude())], loader(), tmp_path, max_epochs=1)


def test_attach_finds_the_groups_itself() -> None:
    network, pruner = Stranger().model, Pruner(0.5, Magnitude())
    with pytest.raises(PruningError, match="groups=None finds the groups in a run"):
        pruner.attach(network, None)
    pruner.check(network, None, lambda _: {"input": X})
    pruner.attach(network, None, lambda _: {"input": X})
    pruner.update()
    pruner.finish([{"input": X}])
    assert network[0].out_features == pruner.kept_counts()["0"] < 12


def test_all_ranks_use_the_groups_of_rank_0() -> None:
    module, stage = Stranger(X[:1]), callback(protect=["head"])
    first = SimpleNamespace(world_size=2, strategy=SimpleNamespace(broadcast=lambda groups: groups[:1]))
    with pytest.raises(PruningError, match=r"protect=head is no group; the groups are \['model.0'\]"):
        stage.on_fit_start(first, module)
