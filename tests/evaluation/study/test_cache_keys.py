"""Every key of the configuration: which stages are made again when it changes, and which stay."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from evaluation.processes.lightning import build_trainer
from evaluation.study.job import Job
from evaluation.study.parent_source import ParentSource
from evaluation.study.stage import Stage
from evaluation.study.stage_maker import StageMaker
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD

NOTHING: set[str] = set()
NAMES = ("job.tracker=ostrack", "job.method=slim")  # which Hydra knows of a command, and not of a composition
TRAINED = {"parent", "sparsity", "child"}
# The first pattern that fits a key says which stages read it; those that come after are made again with them.
READ = {
    "datamodule.workers": NOTHING,
    "datamodule.jobs_at_once": NOTHING,
    "datamodule.*cache": NOTHING,
    "callbacks.progress.*": NOTHING,
    "trainer.enable_model_summary": NOTHING,
    "trainer.log_every_n_steps": NOTHING,
    "trainer.num_sanity_val_steps": NOTHING,
    "trainer.strategy": NOTHING,  # how processes are started; how many there are, counts
    "datamodule.*": TRAINED,
    "trainer.accelerator": TRAINED if torch.cuda.is_available() else NOTHING,  # auto
    "trainer.*": TRAINED,
    "callbacks.*": TRAINED,
    "seed": TRAINED,
    "stages.parent.*": {"parent"},
    "stages.sparsity.*": {"sparsity"},
    "stages.child.*": {"child"},
    "tracker.template.*": TRAINED,  # the data are cropped as the tracker says
    "tracker.search.*": TRAINED,
    "tracker.recipe.sampling": TRAINED,
    "tracker.recipe.negatives": TRAINED,
    "tracker.*": {"parent"},
    "pruning.device": NOTHING,
    "pruning.*": {"sparsity"},
    "ratio": {"sparsity"},
    "speed.*": TRAINED,
    "synthetic.*": {*TRAINED, "evaluation", "parent evaluation"},
    "benchmark.name": {"evaluation", "parent evaluation"},
    "benchmark.sequences.split": {"evaluation", "parent evaluation"},
    "benchmark.*": NOTHING,
    "runner.devices": {"evaluation", "parent evaluation"},  # their types
    "runner.*": NOTHING,
    "device": {"evaluation", "parent evaluation"},
    "logger.*": NOTHING,
    "paths.*": NOTHING,
    "job.*": NOTHING,
    "gates.*": NOTHING,  # without a checkpoint
    "checkpoint": {"parent"},
    "distillation": {"sparsity", "child"},
    **dict.fromkeys(("threads", "scale", "fake_data", "force", "dry_run", "resume_minutes", "objective"), NOTHING),
}
# What else to set where a number plus one, or a word with an x, would not do.
OTHER = {
    "pruning.ratio_of": "macs",
    "pruning.kept_gates": "one",
    "pruning.normalise": "max",
    "pruning.floor": 0.2,
    "pruning.layer_below": 0.1,
    "pruning.schedule.start": 0.2,
    "pruning.schedule.end": 0.9,
    "pruning.scope.default": "layer",
    "pruning.scope.width": "global",
    "pruning.kinds": ["mlp"],
    "pruning.protect": ["head.*"],
    "ratio": 0.4,
    "speed.compile": "default",
    "speed.matmul_precision": "high",
    "trainer.accelerator": "auto",
    "datamodule.device_batch_size": 1,
    "runner.devices": ["cuda:1"],
    "trainer.precision": "bf16-mixed",
    "trainer.strategy": "ddp",
    "benchmark.sequences.split": "train",
    "benchmark.pack": None,
    "distillation": {"_target_": "trackers.distillation.Teacher", "_partial_": True, "outputs": 1.0, "features": 1.0},
    "tracker.elimination": {"keep": 0.5},
    "checkpoint": "pretrained",
}
# With these, one training ranks units for all ratios.
ONCE = ["~pruning.schedule.start", "~pruning.schedule.end", "pruning.schedule._target_=pruning.schedules.OneShot"]


@pytest.fixture(autouse=True)
def unread_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that say what they would read: what sequences hold is the matter of `test_content_keys.py`."""

    def without_cache(said: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in said.items() if key != "cache"}

    def would_track(maker: StageMaker) -> SimpleNamespace:
        benchmark = OmegaConf.to_container(maker.cfg.benchmark)
        said = without_cache(benchmark["sequences"])
        return SimpleNamespace(
            tracking_inputs=lambda: {"benchmark": benchmark["name"], "sequences": said},
            sequences=SimpleNamespace(content=lambda: said),
        )

    def would_train(maker: StageMaker) -> dict[str, Any]:
        data = OmegaConf.to_container(maker.cfg.datamodule)
        sources = [source for split in ("train", "val") for source in data[split].values()]
        return {"sources": [source | {"read": without_cache(source["read"])} for source in sources]}

    monkeypatch.setattr(StageMaker, "benchmark", property(would_track))
    monkeypatch.setattr(StageMaker, "training_content", would_train)


@lru_cache
def composed(cache: Path, *overrides: str) -> DictConfig:
    given = [f"paths.cache={cache}", "paths.job=job", *NAMES, *SMALL_WORLD, *SMALL_NETWORK, *SHORT_STAGES, "ratio=0.5"]
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        cfg = compose("train", [*given, "logger=csv", *overrides])
    OmegaConf.set_struct(cfg, False)
    return cfg


def job(cfg: DictConfig) -> Job:
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    return Job(resolved, ParentSource.from_checkpoint(resolved.checkpoint), build_trainer(resolved.trainer))


def stages(cfg: DictConfig) -> dict[str, Stage]:
    return job(cfg).graph


def own(graph: Mapping[str, Stage]) -> dict[str, Any]:
    """What each stage reads itself."""
    return {role: stage.depends for role, stage in graph.items()}


def leaves(node: DictConfig, at: str = "") -> Iterator[str]:
    """Keys that hold a value of their own or another's value, but not what another key holds as a whole."""
    for key, value in node.items():
        path = f"{at}.{key}" if at else key
        if not isinstance(value, DictConfig):
            yield from () if key.startswith("_") else [path]
        elif not OmegaConf.is_interpolation(node, key):
            yield from leaves(value, path) if value else [path]


def changed(cfg: DictConfig, leaf: str) -> DictConfig:
    cfg = cfg.copy()
    now = OmegaConf.select(cfg, leaf)
    other = OTHER.get(
        leaf, not now if isinstance(now, bool) else now + 1 if isinstance(now, int | float) else f"{now}x"
    )
    OmegaConf.update(cfg, leaf, other, merge=False)
    assert OmegaConf.select(cfg, leaf) != now, leaf
    return cfg


@pytest.mark.attack
def test_a_stage_is_made_again_for_the_keys_that_it_reads_and_for_no_others(cache):
    cfg = composed(cache, "+callbacks.stopping.patience=3")
    before, wrong, unused = own(stages(cfg)), {}, set(READ)
    for leaf in leaves(cfg):
        pattern = next((p for p in READ if fnmatchcase(leaf, p)), None)
        unused.discard(pattern)
        after = own(stages(changed(cfg, leaf)))
        found = {role for role in before if after[role] != before[role]}
        if pattern is None or found != READ[pattern]:
            wrong[leaf] = found
    assert not wrong
    assert not unused


def test_the_stages_that_come_after_are_made_again_too(cache):
    cfg = composed(cache)
    keys = {role: stage.key for role, stage in stages(cfg).items()}
    for leaf, same in {
        "stages.parent.lr_scale": NOTHING,
        "ratio": {"parent", "parent evaluation"},
        "stages.child.lr_scale": {"parent", "sparsity", "parent evaluation"},
    }.items():
        after = {role: stage.key for role, stage in stages(changed(cfg, leaf)).items()}
        assert {role for role in keys if after[role] == keys[role]} == same


@pytest.mark.parametrize(
    ("leaf", "again"),
    [
        ("ratio", {"sparsity"}),
        ("pruning.ratio_of", {"sparsity"}),
        ("pruning.scope.default", {"sparsity"}),
        ("pruning.kept_gates", {"sparsity"}),
        ("pruning.every", NOTHING),
        ("pruning.decay", NOTHING),
        ("pruning.criterion.travel", {"ranking", "sparsity"}),
        ("pruning.kinds", {"ranking", "sparsity"}),
        ("stages.sparsity.steps", {"ranking"}),
        ("datamodule.batch_size", {"parent", "ranking", "child"}),
    ],
)
def test_units_that_are_ranked_once_are_only_cut_for_another_ratio(cache, leaf, again):
    cfg = composed(cache, *ONCE)
    before, after = (own(stages(c)) for c in (cfg, changed(cfg, leaf)))
    assert list(before) == ["parent", "ranking", "sparsity", "child", "parent evaluation", "evaluation"]
    assert {role for role in before if after[role] != before[role]} == again


def test_a_criterion_that_aims_at_the_ratio_trains_for_each(cache):
    assert "ranking" not in stages(composed(cache, "pruning=chipnet"))
    assert "ranking" in stages(composed(cache, "pruning=icassp2023"))


def test_a_limit_that_no_batch_reaches_changes_nothing(cache):
    free, limited, accumulated = (
        own(stages(composed(cache, "datamodule.batch_size=4", f"datamodule.device_batch_size={limit}")))
        for limit in ("null", 4, 2)
    )
    assert free == limited != accumulated


def test_without_training_neither_data_nor_seed_matter(cache, small_checkpoint):
    nothing = [f"stages.{stage}.steps=0" for stage in ("parent", "sparsity", "child")]
    cfg = composed(cache, *nothing, "pruning=magnitude", f"checkpoint={small_checkpoint}")
    keys = [stage.key for stage in stages(cfg).values()]
    for leaf in ("seed", "datamodule.batch_size", "trainer.precision", "stages.sparsity.lr_scale", "pruning.every"):
        assert [stage.key for stage in stages(changed(cfg, leaf)).values()] == keys
    fresh = composed(cache, *nothing, "pruning=magnitude")
    assert stages(changed(fresh, "seed"))["parent"].key != stages(fresh)["parent"].key


@pytest.mark.parametrize("choice", ["ratio_of=latency", "round_to=auto"])
def test_times_depend_on_where_they_are_measured(cache, choice):
    cfg = composed(cache, f"pruning.{choice}")
    before = own(stages(cfg))
    for leaf in ("device", "threads"):
        after = own(stages(changed(cfg, leaf)))
        scored = {"evaluation", "parent evaluation"} if leaf == "device" else NOTHING
        assert {role for role in before if after[role] != before[role]} == {"sparsity", *scored}


def test_a_job_is_another_if_its_result_can_be(cache):
    cfg = composed(cache)
    known = job(cfg).identity["config_hash"]
    unused = ("paths.outputs", "paths.cache", "logger.folder", "force", "dry_run", "resume_minutes", "runner.workers")
    for leaf in unused:
        assert job(changed(cfg, leaf)).identity["config_hash"] == known
    for leaf in ("ratio", "seed", "device", "benchmark.name", "stages.child.steps", "tracker.recipe.lr"):
        assert job(changed(cfg, leaf)).identity["config_hash"] != known


def test_a_files_content_counts_and_not_its_name(cache, small_checkpoint, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(small_checkpoint.read_bytes())
    first, second = (stages(composed(cache, f"checkpoint={path}"))["parent"].key for path in (small_checkpoint, copy))
    assert first == second
