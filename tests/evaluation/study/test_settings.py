"""Settings that make no sense are refused in one line, before anything is built."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evaluation.errors import UserError
from evaluation.study.settings import OTHER_PLACES, RULES, check_settings
from pruning.errors import PruningError
from tests.conftest import CONF

NAMES = ["paths.job=.", "job.tracker=x", "job.method=x", "logger=none"]  # Hydra alone knows them


def settings(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("train", [*NAMES, *overrides]), resolve=True)


@pytest.fixture(scope="module")
def good() -> dict[str, dict[str, Any]]:
    """Configurations by tracker, which together have most settings."""
    return {
        "ostrack": settings("tracker=ostrack", "distillation=parent", "fake_data=small", "benchmark.name=x"),
        "stark": settings("tracker=stark", "datamodule=scenes", "benchmark=scenes", "pruning=taylor"),
        "dimp": settings("tracker=dimp", "pruning=chipnet", "scale=full"),
    }


def test_good_settings_pass(good):
    for each in good.values():
        check_settings(each)


def test_a_ratio_outside_of_its_range_is_refused_before_data_are_made():
    with pytest.raises(PruningError, match=r"ratio=25 must lie in \(0, 1\]"):
        check_settings({"ratio": 25})


NAN, INF = float("nan"), float("inf")
BAD = {
    "paths.cache": [None, "", 1],
    "paths.data": [None],
    "job.method": [None],
    "seed": [None, -1, "abc", 1.5, True, 2**32, NAN, [1]],
    "device": ["gpu", 0, "cuda:one", None],
    "threads": [0, -1, 1.5, "all"],
    "force": ["yes", 1],
    "speed.compile": ["fast", True],
    "speed.channels_last": [None, "yes"],
    "speed.matmul_precision": ["medium", None],
    "resume_minutes": [-1, None, "often"],
    "stages.parent.steps": [-1, 1.5, "abc", None, INF, True],
    "stages.child.lr_scale": [0, -1, NAN, INF, "fast", None],
    "stages.sparsity.every": [0, 1.5],
    "datamodule.batch_size": [0, -1, 1.5, None, "12x", True, {"a": 1}],
    "datamodule.device_batch_size": [0, -1, 1.5, "all", True],
    "datamodule.samples_per_epoch": [0, -1, 0.5],
    "datamodule.val_samples": [-1, 1.5],
    "datamodule.workers": [-1, 0.5, "auto"],
    "datamodule.jobs_at_once": [0, 0.5, None],
    "datamodule.reduced_decoding": ["maybe", 2],
    "datamodule.sampler.max_gap": [0, -200, 1.5],
    "datamodule.sampler.min_frames": [-1, NAN],
    "datamodule.sampler.min_visible": [-1],
    "datamodule.augmentation.flip": [-0.1, 1.1, NAN],
    "datamodule.augmentation.brightness": [-0.5, "bright"],
    "datamodule.train.synthetic.weight": [-1, NAN, INF],
    "synthetic.width": [1, 0, 96.5, 10**6],
    "synthetic.train.frames": [0, -1],
    "synthetic.train.stride": [0],
    "fake_data.folder": ["", None],
    "fake_data.videos.width": [1, 96.5],
    "fake_data.videos.train.sequences": [0],
    "fake_data.videos.val.frames": [0, 1.5],
    "fake_data.lasot_test": [None, [], "airplane-1"],
    "tracker.search.size": [0, -96, 1.5, 10**6],
    "tracker.template.factor": [0, -2, NAN, INF],
    "tracker.search.centre_jitter": [-1, NAN],
    "tracker.search.scale_jitter": [-0.1, INF],
    "tracker.recipe.lr": [0, -1e-3, NAN, INF, "1e-3x", None],
    "tracker.recipe.weight_decay": [-1e-4, NAN],
    "tracker.recipe.clip": [0, -1, NAN],
    "tracker.recipe.schedule.warmup": [-0.1, 1, NAN],
    "tracker.loss.giou": [-2, NAN, None],
    "tracker.online.min_size": [0, -4, NAN],
    "tracker.online.size_smoothing": [-0.1, 1, NAN],
    "pruning.every": [0, -1, 1.5],
    "pruning.floor": [-0.1, 2, NAN, "low", True],
    "pruning.round_to": [0, 1.5, "eight"],
    "pruning.layer_below": [-1, NAN],
    "pruning.decay": [None, "no", 1],
    "pruning.criterion.travel": [0, NAN],
    "pruning.criterion.penalty.default": [-1, NAN, INF, "big"],
    "distillation.outputs": [-1, NAN, "all", True],
    "trainer.precision": ["64-true", "bf16-true", "16-true", 64, None],
    "trainer.log_every_n_steps": [0, -1],
    "trainer.num_nodes": [0],
    "runner.workers": [0, -1, 1.5],
    "runner.lockstep": [0, "many"],
    "runner.ahead": [-1],
}
OF_STARK = {
    "datamodule.bank.objects": [7, 0],
    "tracker.online.update_interval": [0],
    "pruning.criterion.memory": [1, -1],
}
OF_DIMP = {
    "tracker.weights.boxes": [-1, NAN],
    "tracker.label_width": [0, -1],
    "tracker.frozen_stages": [-1, 5],
    "tracker.online.memory": [0, 1.5],
    "tracker.online.best": [0],
    "tracker.online.iterations.update": [-1],
    "tracker.online.rate": [1.5, -1],
    "tracker.recipe.schedule.at": [0, 2],
    "pruning.criterion.budget": [-1],
}


def cases() -> Iterator[tuple[str, str, Any]]:
    for tracker, bad in (("ostrack", BAD), ("stark", OF_STARK), ("dimp", OF_DIMP)):
        for path, values in bad.items():
            for value in values:
                yield tracker, path, value


def put(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = node = copy.deepcopy(settings)
    *above, last = path.split(".")
    for key in above:
        node = node[key]
    node[last] = value
    return changed


@pytest.mark.parametrize(("tracker", "path", "value"), list(cases()), ids=str)
def test_bad_settings_are_refused(good, tracker, path, value):
    with pytest.raises(UserError) as error:
        check_settings(put(good[tracker], path, value))
    told = str(error.value)
    assert told.startswith(f"{path}=")
    assert "e.g. " in told
    assert f"={value} must" in told or value in (None, True)
    assert "\n" not in told


@pytest.mark.parametrize("name", OTHER_PLACES)
def test_arguments_of_the_trainer_that_have_another_place(good, name):
    with pytest.raises(UserError, match=f"trainer.{name}=3 has no place here; .*"):
        check_settings(put(good["ostrack"], f"trainer.{name}", 3))


def test_a_batch_that_no_epoch_fills(good):
    words = "samples_per_epoch=40 is less than one batch of datamodule.batch_size=100"
    with pytest.raises(UserError, match=words):
        check_settings(put(put(good["ostrack"], "datamodule.samples_per_epoch", 40), "datamodule.batch_size", 100))


@pytest.mark.parametrize("path", RULES)
def test_examples_in_messages_work(path):
    assert RULES[path].allows(RULES[path].example)
