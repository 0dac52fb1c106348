"""A job of a study: parent, sparsity, child and evaluation for one tracker and one ratio."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from evaluation.benchmark import Benchmark
from evaluation.files import write_json
from evaluation.loggers import finish_logger
from evaluation.results import describe
from evaluation.runner import Runner
from evaluation.stages import Made, Stage, digest, ensure, identity
from evaluation.training import fit
from pruning.budget import check_ratio
from pruning.callback import PruningCallback
from pruning.table import group_table
from trackers.base import Tracker
from trackers.checkpoint import Checkpoint, load_checkpoint, start

CHECKPOINT = "checkpoint.safetensors"
# Keys that decide where and how fast a result comes, not what it is.
NO_EFFECT = {"workers", "cache", "progress", "enable_model_summary", "log_every_n_steps"}


class Job:
    """One tracker, one ratio.

    Args:
        cfg: the composed configuration.
        folder: where the job's results go.
        train_parent: whether the parent is trained here, be it from a checkpoint; else the checkpoint is the parent.
    """

    def __init__(self, cfg: DictConfig, folder: Path, train_parent: bool = True):
        self.cfg, self.folder, self.train_parent = cfg, folder, train_parent
        self.plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)
        self.stages = Path(cfg.paths.cache) / "stages"

    # Before anything is trained

    def check(self) -> None:
        """Finds out early what would fail late.

        Raises:
            ValueError: a setting, a checkpoint or a data set is not usable.
        """
        check_ratio(self.cfg.ratio)
        runs = self.cfg.checkpoint or (self.cfg.pruning.ratio_of == "latency" and self.cfg.ratio < 1)
        with nullcontext() if runs else torch.device("meta"):
            tracker = self._start().tracker
        self.pruning.check(tracker.network, tracker.groups(), tracker.frame_inputs)
        if self.pruning.criterion.needs_gradients and not self.cfg.stages.sparsity.steps and self.cfg.ratio < 1:
            raise ValueError(
                f"pruning={_chosen('pruning')} ranks by what it learns, but stages.sparsity.steps=0; train, or choose "
                "pruning=magnitude"
            )
        if self.plain["distillation"]:
            instantiate(self.cfg.distillation)(tracker)
        instantiate(self.cfg.datamodule).check()
        self.benchmark.check_scorable()
        self.runner  # noqa: B018 (checks it)

    @cached_property
    def benchmark(self) -> Benchmark:
        """What parent and child are scored on."""
        return instantiate(self.cfg.benchmark, _convert_="all")

    @cached_property
    def runner(self) -> Runner:
        """How they run over it."""
        return instantiate(self.cfg.runner)

    @cached_property
    def pruning(self) -> PruningCallback:
        """What makes the child."""
        return instantiate(self.cfg.pruning, ratio=self.cfg.ratio)

    @cached_property
    def logger(self) -> Any:
        """One logger for all stages of the job; False for none."""
        return instantiate(self.cfg.logger, settings=self.plain, _recursive_=False, _convert_="all")

    # The stages

    def parent(self) -> Made:
        """The dense tracker, or the one that was given."""
        depends = {"tracker": self.plain["tracker"]}
        if self.cfg.checkpoint is not None:
            depends |= {"start": identity(self.cfg.checkpoint), "gates": self.plain["gates"]}
        if self.train_parent:
            return self._ensure("parent", depends | self._training("parent"), self._train_parent)
        return self._ensure("parent", depends, self._take_parent)

    def sparsity(self, parent: Made) -> Made:
        """The parent with masks annealed to the ratio, compacted."""
        pruning = dict(self.plain["pruning"])
        if pruning["ratio_of"] != "latency":
            del pruning["device"]
        depends = {"from": parent.folder.name, "pruning": pruning, "ratio": self.cfg.ratio}
        depends |= self._training("sparsity") | self._distillation()
        return self._ensure("sparsity", depends, lambda f: self._train_sparsity(f, parent))

    def child(self, sparse: Made, parent: Made) -> Made:
        """The compacted tracker, fine-tuned."""
        depends = {"from": sparse.folder.name} | self._training("child") | self._distillation()
        return self._ensure("child", depends, lambda f: self._train_child(f, sparse, parent))

    def evaluation(self, made: Made) -> Made:
        """What a checkpoint's tracker says about the benchmark's sequences."""
        depends = {"from": made.folder.name} | self.benchmark.tracked()
        return self._ensure("evaluation", depends, lambda f: self._evaluate(f, made))

    def _ensure(self, name: str, depends: dict[str, Any], make: Callable[[Path], None]) -> Made:
        return ensure(Stage(name, _effective(depends), make), self.stages, self.cfg.force)

    def _training(self, name: str) -> dict[str, Any]:
        """What every training depends on."""
        shared = {key: self.plain[key] for key in ("datamodule", "trainer", "callbacks", "seed")}
        return shared | {"stage": self.plain["stages"][name]}

    def _distillation(self) -> dict[str, Any]:
        """What the stages that may learn from the parent depend on besides; nothing if they do not."""
        return {"distillation": self.plain["distillation"]} if self.plain["distillation"] else {}

    def _teach(self, student: Tracker, parent: Made) -> None:
        if self.plain["distillation"]:
            student.teacher = instantiate(self.cfg.distillation)(load_checkpoint(parent.folder / CHECKPOINT).tracker)

    def _start(self) -> Checkpoint:
        """What the parent is, or starts from."""
        return start(self.plain["tracker"], self.cfg.checkpoint, instantiate(self.cfg.gates))

    def _take_parent(self, folder: Path) -> None:
        self._start().save(folder / CHECKPOINT)

    def _train_parent(self, folder: Path) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._start()
        fit(self.cfg, begun.tracker, "parent", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, config=self.plain).save(folder / CHECKPOINT)

    def _train_sparsity(self, folder: Path, parent: Made) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = load_checkpoint(parent.folder / CHECKPOINT)
        tracker, pruning = begun.tracker, self.pruning
        self._teach(tracker, parent)
        if self.cfg.stages.sparsity.steps:
            fit(self.cfg, tracker, "sparsity", folder, self.logger, pruning)
        else:
            pruning.attach(tracker.network, tracker.groups(), tracker.frame_inputs)
            pruning.update()
        draws = [tracker.example_inputs() for _ in range(3)]
        metrics = pruning.finish(draws)
        plan = begun.plan.then(pruning.plan)
        Checkpoint(tracker, begun.recipe, plan, metrics, self.plain).save(folder / CHECKPOINT)

    def _train_child(self, folder: Path, sparse: Made, parent: Made) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = load_checkpoint(sparse.folder / CHECKPOINT)
        self._teach(begun.tracker, parent)
        fit(self.cfg, begun.tracker, "child", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, begun.metrics, self.plain).save(folder / CHECKPOINT)

    def _evaluate(self, folder: Path, made: Made) -> None:
        load = partial(load_checkpoint, made.folder / CHECKPOINT)
        self.runner.run(load, self.benchmark.sequences, folder / "boxes" / self.benchmark.name)

    # The whole job

    def run(self) -> dict[str, Any]:
        """Makes or finds every stage, and leaves `result.json`, the checkpoint and the boxes in the job's folder."""
        self.made = made = {"parent": self.parent()}
        final = made["parent"]
        if self.cfg.ratio < 1:
            made["sparsity"] = self.sparsity(final)
            made["child"] = final = self.child(made["sparsity"], made["parent"])
        parent_tracked = self.evaluation(made["parent"])
        made["evaluation"] = tracked = parent_tracked if final is made["parent"] else self.evaluation(final)
        result = self._about(made) | describe(
            *(load_checkpoint(m.folder / CHECKPOINT) for m in (final, made["parent"])),
            *(self.benchmark.scores(m.folder / "boxes" / self.benchmark.name) for m in (tracked, parent_tracked)),
            self.cfg.device,
        )
        shutil.copyfile(final.folder / CHECKPOINT, self.folder / CHECKPOINT)
        shutil.copytree(tracked.folder / "boxes", self.folder / "boxes", dirs_exist_ok=True)
        OmegaConf.save(self.cfg, self.folder / "config.yaml", resolve=True)
        write_json(self.folder / "result.json", result)
        finish_logger(self.logger, result)
        return result

    def group_table(self) -> Table:
        """The groups of the parent and what the child keeps of them, once the job has run."""
        parent, final = (load_checkpoint(f / CHECKPOINT) for f in (self.made["parent"].folder, self.folder))
        groups = parent.tracker.groups()
        kept = {name: len(units) for name, units in final.plan.kept.items()}
        return group_table(parent.tracker.network, groups, kept, parent.tracker.frame_inputs)

    def _about(self, made: dict[str, Made]) -> dict[str, Any]:
        cfg = self.cfg
        return {
            "job": self.folder.name,
            "status": "finished",
            "tracker": self._tracker_name(),
            "scale": cfg.scale,
            "ratio": cfg.ratio,
            "ratio_of": cfg.pruning.ratio_of,
            "method": _chosen("pruning") + (" + distillation" if self.plain["distillation"] else ""),
            "seed": cfg.seed,
            "seconds": {k: "cached" if m.cached else m.seconds for k, m in made.items()},
            "config_hash": digest(self.plain),
        }

    def _tracker_name(self) -> str:
        """The choice of `tracker=...`, or the class of a checkpoint's."""
        return _chosen("tracker") or self.cfg.tracker._target_.rsplit(".", 1)[1].lower()


def _chosen(group: str) -> str | None:
    """The choice of a config group on the command line or among the defaults."""
    return HydraConfig.get().runtime.choices.get(group)


def _effective(plain: Any) -> Any:
    """`plain` without the keys that have no effect on results."""
    if isinstance(plain, dict):
        return {k: _effective(v) for k, v in plain.items() if k not in NO_EFFECT}
    return [_effective(v) for v in plain] if isinstance(plain, list) else plain
