"""A training whose numbers are no longer finite stops, and nothing of it is kept."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from evaluation.errors import UserError
from evaluation.processes.held_signals import HeldSignals
from evaluation.study import finite_training
from evaluation.study.finite_training import FiniteTraining, check_finite
from evaluation.study.resuming import ResumeCheckpoint, saved_step
from tests.pruning.training import Regressor, fit, loader

pytestmark = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*", "ignore:.*LeafSpec.*")


class Poisoned(Regressor):
    """Module in which one value is wrong from a step on.

    Args:
        where: what is wrong: "loss", "gradient", "weight", "statistic" or "optimizer".
        value: the wrong value.
        step: first step of it.
    """

    stage = "child"

    def __init__(self, where: str, value: float, step: int, **options: torch.dtype):
        super().__init__(**options)
        self.network.register_buffer("statistic", torch.zeros(3))
        self.where, self.value, self.step = where, value, step

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = super().training_step(batch, index)
        if self.where == "loss" and self.global_step >= self.step:
            loss = loss + self.value
        self.log("child/error", loss)
        return loss

    def on_after_backward(self) -> None:
        if self.where == "gradient" and self.global_step >= self.step:
            self.network.fc1.weight.grad[2, 1] = self.value

    def on_train_batch_end(self, *_: object) -> None:
        if self.global_step < self.step:
            return
        if self.where == "weight":
            self.network.fc1.weight.data[0, 0] = self.value
        if self.where == "statistic":
            self.network.statistic[1] = self.value
        if self.where == "optimizer":
            next(iter(self.optimizers().optimizer.state.values()))["exp_avg"][0] = self.value


def train(module: Regressor, folder: Path, steps: int = 9, **options: object) -> FiniteTraining:
    callback, data = FiniteTraining(), loader(dtype=module.network.fc1.weight.dtype)
    checkpoint = ResumeCheckpoint(folder / "training.ckpt", 0, HeldSignals())
    settings = {"max_steps": steps, "max_epochs": -1, "enable_checkpointing": True}
    fit(module, [callback, checkpoint], data, folder, **(settings | options))
    return callback


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("loss", ("step 5", "loss error is not finite", "stages.child.lr_scale")),
        ("gradient", ("step 5", "gradient of fc1.weight is not finite", "precision=32-true")),
        ("weight", ("step 5", "loss error is not finite")),
        ("statistic", ("step 6", "weights.network.statistic is not finite", "not kept")),
        ("optimizer", ("step 6", "optimizer.0.state.0.exp_avg", "not finite", "not kept")),
    ],
)
def test_it_stops_before_anything_is_written(tmp_path, where, words, value):
    with pytest.raises(UserError) as error:
        train(Poisoned(where, value, step=5), tmp_path)
    for word in words:
        assert word in str(error.value)
    assert saved_step(tmp_path / "training.ckpt") == 5
    saved = torch.load(tmp_path / "training.ckpt", weights_only=True)
    check_finite("child", {k: saved[k] for k in ("state_dict", "optimizer_states")})


@pytest.mark.parametrize("where", ["weight", "statistic", "optimizer"])
def test_the_last_step_is_checked_too(tmp_path, where):
    with pytest.raises(UserError, match=r"step 6: .* not finite"):
        train(Poisoned(where, float("nan"), step=6), tmp_path, steps=6)


def test_the_weights_before_the_wrong_step_are_unchanged(tmp_path):
    whole, stopped = Regressor(), Poisoned("loss", float("nan"), step=3)
    fit(whole, [], loader(), tmp_path, max_steps=3)
    with pytest.raises(UserError):
        train(stopped, tmp_path)
    assert torch.equal(whole.network.fc1.weight, stopped.network.fc1.weight)


def test_one_bad_batch_of_several_in_a_step_is_found(tmp_path):
    # The first of two batches is wrong.
    with pytest.raises(UserError, match=r"step 2 \(batches 4 to 5, samples 4 to 5\)"):
        train(Poisoned("loss", float("nan"), step=2), tmp_path, accumulate_grad_batches=2)


def test_it_changes_no_healthy_training(tmp_path):
    plain, checked = Regressor(), Poisoned("nothing", 0.0, step=0)
    fit(plain, [], loader(), tmp_path, max_steps=6)
    train(checked, tmp_path, steps=6)
    assert torch.equal(plain.network.fc1.weight, checked.network.fc1.weight)


# With a loss scaler


def overflowing(step: int, where: str = "gradient") -> Poisoned:
    return Poisoned(where, float("inf"), step, dtype=torch.float32)


class FewOverflows(Poisoned):
    """Module whose first two steps overflow."""

    def on_after_backward(self) -> None:
        if self.global_step < 2:
            self.network.fc1.weight.grad[2, 1] = torch.inf


def test_a_scaler_skips_single_steps(tmp_path, caplog):
    callback = train(
        FewOverflows("nothing", 0.0, 0, dtype=torch.float32), tmp_path, plugins=[MixedPrecision("16-mixed", "cpu")]
    )
    assert 2 <= callback.skipped <= 4  # halves of the first scale may be too large as well
    assert f"skipped {callback.skipped} steps" in caplog.text


def test_a_scaler_that_skips_every_step_trains_nothing(tmp_path):
    with pytest.raises(UserError, match="skipped 9 steps, so nothing was trained"):
        train(overflowing(0), tmp_path, plugins=[MixedPrecision("16-mixed", "cpu")])


def test_a_scaler_that_skips_many_steps_in_a_row_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(finite_training, "MAX_SKIPPED", 3)
    with pytest.raises(UserError, match=r"step 5.*gradient of fc1.weight"):
        train(overflowing(2), tmp_path, plugins=[MixedPrecision("16-mixed", "cpu")])


def test_a_scaler_heals_no_loss(tmp_path):
    with pytest.raises(UserError, match=r"step 4.*loss error"):
        train(overflowing(4, "loss"), tmp_path, plugins=[MixedPrecision("16-mixed", "cpu")])


def test_nested_tensors_are_found():
    check_finite("parent", {"a": [torch.ones(2), {"b": torch.zeros(0)}], "n": torch.tensor([1, 2]), "s": "nan"})
    with pytest.raises(UserError, match=r"^stage parent: a.1.b is not finite.* stages.parent.lr_scale"):
        check_finite("parent", {"a": [torch.ones(2), {"b": torch.tensor([1.0, torch.nan])}]})
    with pytest.raises(UserError, match=r"and 2 more are not finite"):
        check_finite("parent", [torch.tensor(torch.nan)] * 5)
