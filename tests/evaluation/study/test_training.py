"""The training of a stage: it has all its steps or is an error, and it does not depend on the loader's workers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from evaluation.errors import UserError
from evaluation.study.training import build_callbacks, fit
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD
from trackers.checkpoints.checkpoint import build_tracker


@pytest.fixture
def trained(cache: Path, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Trains a tiny OSTrack for 4 steps and returns its weights."""

    def train(*overrides: str, callbacks: tuple[L.Callback, ...] = ()) -> dict[str, Tensor]:
        given = [*SMALL_WORLD, *SMALL_NETWORK, *SHORT_STAGES, f"paths.cache={cache}", "paths.job=.", *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg: DictConfig = compose("train", [*given, "+tracker.vit.drop_path_rate=0.2"])
        L.seed_everything(cfg.seed, verbose=False)
        tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
        fit(cfg, tracker, "parent", tmp_path / "_".join(overrides), False, *callbacks)
        return tracker.network.state_dict()

    return train


class StopAfter(L.Callback):
    """Early stopping, as a user may add it."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= 2


@pytest.mark.parametrize(
    ("overrides", "callbacks", "done"),
    [
        (["datamodule.batch_size=100"], (), 0),
        (["+trainer.limit_train_batches=0"], (), 0),
        (["+trainer.max_epochs=1"], (), 2),
        (["+trainer.max_time=00:00:00:00"], (), 0),
        (["+trainer.fast_dev_run=true"], (), 1),
        ([], (StopAfter(),), 2),
    ],
    ids=["batch", "no batches", "epochs", "time", "one step", "callback"],  # the same in every test process
)
@pytest.mark.filterwarnings("ignore:Total length of")
def test_fewer_steps_than_asked_are_an_error(trained, overrides, callbacks, done):
    with pytest.raises(UserError, match=f"ended after {done} of stages.parent.steps=4 steps"):
        trained(*overrides, callbacks=callbacks)


@pytest.mark.slow
def test_the_weights_do_not_depend_on_the_workers(trained):
    alone = trained("datamodule.workers=0")
    for workers in (1, 3):
        other = trained(f"datamodule.workers={workers}")
        assert all(torch.equal(alone[name], other[name]) for name in alone)
    assert not all(torch.equal(alone[n], w) for n, w in trained("seed=43").items())


def test_a_callback_is_left_out_by_null_and_anything_else_is_refused():
    progress = {"_target_": "evaluation.study.progress_bar.StageProgressBar", "refresh_rate": 3}
    (bar,) = build_callbacks(OmegaConf.create({"progress": progress, "input_wait": None}))
    assert bar.refresh_rate == 3
    bar.on_exception()  # before the training has a bar
    bar.train_progress_bar = bar.init_train_tqdm()
    bar.on_exception()
    assert bar.train_progress_bar.disable  # it is closed, and the end of the process does not draw it again
    with pytest.raises(UserError, match=r"callbacks\.stop=EarlyStopping is no Lightning callback; name its class"):
        build_callbacks(OmegaConf.create({"stop": "EarlyStopping"}))
