"""A job of a study: parent, sparsity, child and evaluation for one tracker and one ratio."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from evaluation.files import write_json
from evaluation.loggers.ending import finish_logger, marked_if_failed
from evaluation.processes.devices import without_gpu_numbers
from evaluation.processes.ranks import is_rank_zero
from evaluation.study import cache_keys
from evaluation.study.job_result import describe
from evaluation.study.stage import Made, Stage, digest, ensure, identity, state
from evaluation.study.stage_maker import CHECKPOINT, StageMaker
from evaluation.study.training import progress
from pruning.budget import check_ratio
from pruning.table import group_table
from trackers.checkpoints.checkpoint import LIBRARY, load_checkpoint, read_checkpoint


class Job:
    """One tracker, one ratio.

    Args:
        cfg: the composed configuration.
        folder: where the job's results go.
        train_parent: whether the parent is trained here, be it from a checkpoint; else the checkpoint is the parent.
        since: stages that were finished before this moment (seconds since the epoch) are made again.
    """

    def __init__(self, cfg: DictConfig, folder: Path, train_parent: bool = True, since: float = 0.0):
        self.cfg, self.folder, self.train_parent, self.since = cfg, folder, train_parent, since
        self.plain: dict[str, Any] = without_gpu_numbers(OmegaConf.to_container(cfg, resolve=True))
        self.stages = Path(cfg.paths.cache) / "stages"
        self.maker = StageMaker(cfg, self.plain, self.stages, self._tell)

    # Before anything is trained

    def check(self) -> None:
        """Finds out early what would fail late.

        Raises:
            ValueError: a setting, a checkpoint or a data set is not usable.
        """
        check_ratio(self.cfg.ratio)
        runs = self.cfg.checkpoint or (self.cfg.pruning.ratio_of == "latency" and self.cfg.ratio < 1)
        with nullcontext() if runs else torch.device("meta"):
            tracker = self.maker.start().tracker
        self.maker.pruning.check(tracker.network, tracker.groups(), tracker.frame_inputs)
        if self.maker.pruning.criterion.needs_gradients and not self.cfg.stages.sparsity.steps and self.cfg.ratio < 1:
            raise ValueError(
                f"pruning={_chosen('pruning')} ranks by what it learns, but stages.sparsity.steps=0; train, or choose "
                "pruning=magnitude"
            )
        if self.plain["distillation"]:
            instantiate(self.cfg.distillation)(tracker)
        instantiate(self.cfg.datamodule).check()
        self.maker.benchmark.check_scorable()
        self.maker.runner  # noqa: B018 (checks it)

    # The stages

    @cached_property
    def graph(self) -> dict[str, Stage]:
        """The stages of the job by their role, each after those that it needs. Nothing is made for it.

        An ``evaluation`` is the job's; a child's parent has a ``parent evaluation`` besides.
        """
        parent = final = self._parent()
        graph = {"parent": parent}
        if self.cfg.ratio < 1:
            ranked = parent
            if self._ranks_once:
                graph["ranking"] = ranked = self._ranking(parent)
            graph["sparsity"] = sparse = self._sparsity(ranked, parent)
            graph["child"] = final = self._child(sparse, parent)
            graph["parent evaluation"] = self._evaluation(parent)
        return graph | {"evaluation": self._evaluation(final)}

    @property
    def _ranks_once(self) -> bool:
        """Whether one training ranks units for all ratios."""
        return bool(self.cfg.stages.sparsity.steps) and self.maker.pruning.ranks_once

    def _parent(self) -> Stage:
        """The dense tracker, or the one that was given."""
        depends: dict[str, Any] = {"tracker": self.plain["tracker"]}
        if self.cfg.checkpoint is not None:
            depends["start"] = identity(self.cfg.checkpoint)
        if self._is_file:
            depends["gates"] = self.plain["gates"]
        if not self.train_parent or (self._is_whole and not self.cfg.stages.parent.steps):
            return self._stage("parent", depends, self.maker.take_parent)
        depends |= {"seed": self.cfg.seed} | cache_keys.of_training(self.plain, "parent")
        return self._stage("parent", depends, self.maker.train_parent, progress=progress)

    def _ranking(self, parent: Stage) -> Stage:
        """The parent after a sparsity training that does not depend on the ratio: uncut, with what it says of units."""
        depends = {"pruning": cache_keys.of_ranking(self.plain)} | self._sparsity_training
        return self._stage("ranking", depends, partial(self.maker.train_ranking, parent=parent), (parent,), progress)

    def _sparsity(self, ranked: Stage, parent: Stage) -> Stage:
        """The parent, compacted to the ratio: after a training that anneals masks, or right away."""
        trains = bool(self.cfg.stages.sparsity.steps) and not self._ranks_once
        depends = cache_keys.of_cutting(self.plain, trains)
        if not trains:
            return self._stage("sparsity", depends, partial(self.maker.cut, ranked=ranked), (ranked,))
        depends |= self._sparsity_training
        return self._stage("sparsity", depends, partial(self.maker.train_sparsity, parent=parent), (parent,), progress)

    @property
    def _sparsity_training(self) -> dict[str, Any]:
        return cache_keys.of_training(self.plain, "sparsity") | cache_keys.of_distillation(self.plain)

    def _child(self, sparse: Stage, parent: Stage) -> Stage:
        """The compacted tracker, fine-tuned."""
        depends = cache_keys.of_training(self.plain, "child")
        after = (sparse,)
        if depends and self.plain["distillation"]:
            depends, after = depends | cache_keys.of_distillation(self.plain), (sparse, parent)
        make = partial(self.maker.train_child, sparse=sparse, parent=parent)
        return self._stage("child", depends, make, after, progress)

    def _evaluation(self, tracker: Stage) -> Stage:
        """What a checkpoint's tracker says about the benchmark's sequences."""
        depends, tracked = self.maker.benchmark.tracked(), self.maker.tracked
        return self._stage("evaluation", depends, partial(self.maker.evaluate, tracker=tracker), (tracker,), tracked)

    def _stage(
        self,
        name: str,
        depends: dict[str, Any],
        make: Callable[[Path], None],
        after: tuple[Stage, ...] = (),
        progress: Callable[[Path], str] | None = None,
    ) -> Stage:
        return Stage(name, cache_keys.effective(depends), make, after, progress)

    # What is known of the checkpoint that the parent starts from

    @property
    def _is_file(self) -> bool:
        return self.cfg.checkpoint not in (None, LIBRARY)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether it is a tracker, so that nothing of the parent is drawn at random."""
        return self._is_file and read_checkpoint(self.cfg.checkpoint).recipe is not None

    # The whole job

    @cached_property
    def config_hash(self) -> str:
        """The same for jobs whose results can only differ in times."""
        return digest(cache_keys.of_result(self.plain))

    def finished(self) -> dict[str, Any] | None:
        """The result that an earlier run of this very job left in its folder, if any.

        What another job or a failure left there goes away, so that nobody takes it for this one's.
        """
        path = self.folder / "result.json"
        if not path.is_file():
            return None
        result = json.loads(path.read_text())
        if not self.since and (result["status"], result.get("config_hash")) == ("finished", self.config_hash):
            return result
        path.unlink(missing_ok=True)  # by another process of this job
        return None

    def plan(self) -> Table:
        """What `run` would do: every stage with its key, how much of it is there, and what it comes after.

        Equal keys in the plans of several jobs are one stage, which is made once.
        """
        title = "{tracker} {scale}, ratio {ratio}, {method}, seed {seed}".format_map(self.about)
        table = Table("stage", "key", "state", "after", title=title, title_justify="left")
        for role, stage in self.graph.items():
            after = ", ".join(r for r, s in self.graph.items() if s in stage.after)
            table.add_row(role, stage.key, state(stage, self.stages, self.since), after)
        return table

    def run(self) -> dict[str, Any]:
        """Makes or finds every stage, and leaves `result.json`, the checkpoint and the boxes in the job's folder."""
        with marked_if_failed(self.maker.logger):
            return self._run()

    def _run(self) -> dict[str, Any]:
        self.made = made = {role: ensure(stage, self.stages, self.since) for role, stage in self.graph.items()}
        if not is_rank_zero():
            return {}
        parent = made["parent"]
        final, parent_tracked = made.get("child", parent), made.get("parent evaluation", made["evaluation"])
        checkpoint, parent_checkpoint = (m.folder / CHECKPOINT for m in (final, parent))
        result = self._told(made) | describe(
            *(load_checkpoint(path) for path in (checkpoint, parent_checkpoint)),
            *(self.maker.benchmark.scores(self.maker.boxes(m.folder)) for m in (made["evaluation"], parent_tracked)),
            self.cfg.device,
        )
        shutil.copyfile(checkpoint, self.folder / CHECKPOINT)
        shutil.copytree(made["evaluation"].folder / "boxes", self.folder / "boxes", dirs_exist_ok=True)
        OmegaConf.save(self.cfg, self.folder / "config.yaml", resolve=True)
        write_json(self.folder / "result.json", result)
        child = None if final is parent else checkpoint
        trained = self.train_parent and not parent.cached
        finish_logger(self.maker.logger, result, parent_checkpoint, child, trained)
        return result

    def group_table(self) -> Table:
        """The groups of the parent and what the child keeps of them, once the job has run."""
        parent, final = (load_checkpoint(f / CHECKPOINT) for f in (self.made["parent"].folder, self.folder))
        groups = parent.tracker.groups()
        kept = {name: len(units) for name, units in final.plan.kept.items()}
        return group_table(parent.tracker.network, groups, kept, parent.tracker.frame_inputs)

    def _told(self, made: dict[str, Made]) -> dict[str, Any]:
        seconds = {k: "cached" if m.cached else m.seconds for k, m in made.items()}
        return {"job": self.folder.name, "status": "finished"} | self.about | {"seconds": seconds}

    @cached_property
    def about(self) -> dict[str, Any]:
        """What tells the job from others, in the words of tables."""
        cfg = self.cfg
        return {
            "tracker": self._tracker_name(),
            "scale": cfg.scale,
            "ratio": cfg.ratio,
            "ratio_of": cfg.pruning.ratio_of,
            "method": self._method(),
            "seed": cfg.seed,
            "config_hash": self.config_hash,
        }

    def _tell(self) -> dict[str, Any]:
        return self.about  # as a function, and one that spawned processes can be handed

    def _method(self) -> str:
        method = _chosen("pruning").split("/")[0]  # icassp2023/TRACKER is one method, with a file a tracker
        return method + (" + distillation" if self.plain["distillation"] else "")

    def _tracker_name(self) -> str:
        """The choice of `tracker=...`, or the class of a checkpoint's."""
        return _chosen("tracker") or self.cfg.tracker._target_.rsplit(".", 1)[1].lower()


def _chosen(group: str) -> str | None:
    """The choice of a config group on the command line or among the defaults."""
    return HydraConfig.get().runtime.choices.get(group)
