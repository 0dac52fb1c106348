"""A job of a study: parent, sparsity, child and evaluation for one tracker and one ratio."""

import json
import logging
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from rich.table import Table

from evaluation.errors import UserError
from evaluation.files import link_folder, link_or_copy, write_json
from evaluation.loggers.ending import finish_logger, marked_if_failed
from evaluation.processes.devices import arithmetic, resolve_devices
from evaluation.processes.ranks import is_rank_zero
from evaluation.report.makers import maker_warnings
from evaluation.report.study_results import RATIO_OF, describe_sizes
from evaluation.study import cache_keys
from evaluation.study.global_batch import GlobalBatch, check_smallest, share_batch
from evaluation.study.job_records import record_job
from evaluation.study.job_result import describe_result
from evaluation.study.parent_source import ParentSource
from evaluation.study.stage import FinishedStage, Stage, ensure, position
from evaluation.study.stage_maker import CHECKPOINT, StageMaker
from evaluation.study.stage_record import digest
from evaluation.study.training import build_callbacks, training_progress
from evaluation.tracking.sequence_results import SEQUENCES
from pruning.cost.table import group_table
from trackers.checkpoints.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

FAR = 2  # a fraction of the parent this many times larger or smaller than the ratio is worth a warning


class Job:
    """A job of a study: one tracker at one ratio.

    Args:
        cfg: the resolved configuration.
        source: source of the parent.
        trainer: built from `cfg.trainer`. It tells which devices train.
        trains_parent: whether the job may train its parent, starting from the source. If not, the source is the parent.
        command: see `ensure`.

    Raises:
        UserError: a data set is missing or broken, or the devices cannot share the batch.
    """

    def __init__(
        self, cfg: DictConfig, source: ParentSource, trainer: Trainer, trains_parent: bool = True, command: str = ""
    ):
        self.cfg, self.source, self.trains_parent, self.command = cfg, source, trains_parent, command
        self.folder, self.stages = Path(cfg.paths.job), Path(cfg.paths.cache) / "stages"
        method = cfg.job.method.split("/")[0]  # pruning=icassp2023/TRACKER is one method with a file for each tracker
        self.identity = {
            "tracker": cfg.job.tracker,
            "scale": cfg.scale,
            "ratio": cfg.ratio,
            "ratio_of": cfg.pruning.ratio_of,
            "method": method + (" + distillation" if cfg.distillation else ""),
            "seed": cfg.seed,
        }
        self.maker = StageMaker(cfg, source, self.stages, self.identity)
        self._batch: GlobalBatch | None = None  # None if nothing is trained
        self._keys = self._find_keys(trainer)
        self.expected = ""  # what stays of the parent, in words; see `check`
        self.identity["config_hash"] = digest(cache_keys.result_keys(self._keys))

    def _find_keys(self, trainer: Trainer) -> dict[str, Any]:
        """Returns the settings with what they stand for: devices, their batches, and the content of files for paths."""
        settings: Any = OmegaConf.to_container(self.cfg)
        keys = resolve_devices(settings, trainer)
        keys |= {"checkpoint": self.source.identity, "scoring": arithmetic(keys["runner"]["devices"])}
        if cache_keys.trains(keys, self.trains_parent):
            self._batch = share_batch(self.cfg.datamodule, trainer)
            content = self.maker.training_content()
            keys["datamodule"] = keys["datamodule"] | {"content": content, "device_batch_size": self._batch.per_device}
        keys["benchmark"] = keys["benchmark"] | {"content": self.maker.benchmark.sequences.content()}
        return keys

    # Before anything is trained

    def check(self) -> None:
        """Checks the settings, the checkpoint and the data before anything is trained.

        Raises:
            UserError: a setting, a checkpoint or a data set cannot be used.
        """
        cfg = self.cfg
        pruning = self.maker.pruning  # checks the ratio, so it comes first
        tracker = self.maker.initial_tracker()
        if self._batch is not None:
            check_smallest(self._batch, tracker.smallest_batch)
        pruning.check(tracker.network, tracker.groups(), tracker.frame_inputs, lambda _: tracker.example_inputs())
        if pruning.criterion.needs_gradients and not cfg.stages.sparsity.steps and cfg.ratio < 1:
            raise UserError(
                f"pruning={cfg.job.method} ranks units by gradients, but stages.sparsity.steps=0 trains "
                "nothing; set more steps, or pruning=magnitude"
            )
        if cfg.distillation:
            instantiate(cfg.distillation)(tracker)
        if cfg.ratio < 1:
            self._announce(pruning.estimate(tracker.network, tracker.groups(), tracker.frame_inputs))
        build_callbacks(cfg.callbacks)
        instantiate(cfg.speed)
        instantiate(cfg.datamodule).check()
        self.maker.benchmark.check_scorable()
        self.maker.runner  # noqa: B018 (building the runner checks its settings)

    def _announce(self, kept: dict[str, list[float]]) -> None:
        """Logs what will be left of the parent, and warns if that is far from the ratio."""
        unit = RATIO_OF.get(self.cfg.pruning.ratio_of, self.cfg.pruning.ratio_of)
        self.expected = f"ratio {self.cfg.ratio} of the {unit} keeps about {describe_sizes(kept)}"
        log.info(self.expected)
        near = self.cfg.ratio / FAR, self.cfg.ratio * FAR
        far = [name for name, (_, low, high) in kept.items() if high < near[0] or low > near[1]]
        if self.cfg.pruning.ratio_of == "units" and far:
            names = " and of the ".join(RATIO_OF[name] for name in far)
            log.warning(
                "ratio=%s counts units, and is far from the fraction of the %s; pruning.ratio_of=%s sets that fraction",
                *(self.cfg.ratio, names, far[-1]),
            )

    # The stages

    @cached_property
    def graph(self) -> dict[str, Stage]:
        """The stages of the job by their role, each after the stages that it needs. Building the graph makes no stage.

        "evaluation" scores the tracker of the job, "parent evaluation" scores the parent of a child.
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
        """Whether one training ranks the units for all ratios."""
        return bool(self.cfg.stages.sparsity.steps) and self.maker.pruning.ranks_once

    def _parent(self) -> Stage:
        """Returns the stage of the dense tracker, trained or given."""
        keys: dict[str, Any] = {"tracker": self._keys["tracker"]}
        if self.source.identity is not None:
            keys["start"] = self.source.identity
        if self.source.is_file:
            keys["gates"] = self._keys["gates"]
        if not self.trains_parent or (self.source.is_whole and not self.cfg.stages.parent.steps):
            return self._stage("parent", keys, self.maker.take_parent)
        keys |= {"seed": self.cfg.seed} | cache_keys.training_keys(self._keys, "parent")
        return self._stage("parent", keys, self.maker.train_parent, progress=self._progress("parent"))

    def _ranking(self, parent: Stage) -> Stage:
        """Returns the stage of a sparsity training without a ratio: the uncut parent and its ranking of units."""
        keys = {"pruning": cache_keys.ranking_keys(self._keys)} | self._sparsity_training_keys
        make = partial(self.maker.train_ranking, parent=parent)
        return self._stage("ranking", keys, make, (parent,), self._progress("sparsity"))

    def _sparsity(self, ranked: Stage, parent: Stage) -> Stage:
        """Returns the stage that cuts the parent to the ratio: after a training that anneals its mask, or at once."""
        trains = bool(self.cfg.stages.sparsity.steps) and not self._ranks_once
        keys = cache_keys.cutting_keys(self._keys, trains)
        if not trains:
            return self._stage("sparsity", keys, partial(self.maker.cut, ranked=ranked), (ranked,))
        make = partial(self.maker.train_sparsity, parent=parent)
        return self._stage("sparsity", keys | self._sparsity_training_keys, make, (parent,), self._progress("sparsity"))

    @property
    def _sparsity_training_keys(self) -> dict[str, Any]:
        return cache_keys.training_keys(self._keys, "sparsity") | cache_keys.distillation_keys(self._keys)

    def _child(self, sparse: Stage, parent: Stage) -> Stage:
        """Returns the stage that fine-tunes the compacted tracker."""
        keys = cache_keys.training_keys(self._keys, "child")
        after = (sparse,)
        if keys and self.cfg.distillation:
            keys, after = keys | cache_keys.distillation_keys(self._keys), (sparse, parent)
        make = partial(self.maker.train_child, sparse=sparse, parent=parent)
        return self._stage("child", keys, make, after, self._progress("child"))

    def _evaluation(self, tracker: Stage) -> Stage:
        """Returns the stage that runs a stage's tracker over the benchmark."""
        make = partial(self.maker.evaluate, tracker=tracker, reuse=not self.command)
        keys = self.maker.benchmark.tracking_inputs() | {"arithmetic": self._keys["scoring"]}
        return self._stage("evaluation", keys, make, (tracker,), self.maker.evaluation_progress)

    def _progress(self, stage: str) -> Callable[[Path], str]:
        """Returns the function that tells the progress of an interrupted training."""
        return partial(training_progress, steps=self.cfg.stages[stage].steps)

    def _stage(
        self,
        name: str,
        keys: dict[str, Any],
        make: Callable[[Path], None],
        after: tuple[Stage, ...] = (),
        progress: Callable[[Path], str] | None = None,
    ) -> Stage:
        return Stage(name, cache_keys.effective_keys(keys), make, after, progress)

    # The whole job

    def finished_result(self) -> dict[str, Any] | None:
        """Returns the result that an earlier run of the same job left in its folder; None without one.

        A result of another job or of a failure is deleted, so that nobody takes it for the result of this job.
        """
        path = self.folder / "result.json"
        if not path.is_file():
            return None
        try:
            result = json.loads(path.read_text())
        except ValueError:
            result = {}  # a crash of the machine may leave an empty file
        known = result.get("status"), result.get("config_hash")
        if not self.command and known == ("finished", self.identity["config_hash"]):
            return result
        path.unlink(missing_ok=True)  # another process of this job may have deleted it
        return None

    def position(self) -> str:
        """Returns in words in which stage the job has stopped, and what of it is saved."""
        return position(self.graph.values(), self.stages, self.command)

    def run(self) -> dict[str, Any]:
        """Makes every stage that the cache lacks, and writes `result.json`, the checkpoint and the boxes.

        Returns:
            The result; {} in all processes but that of rank 0.
        """
        with marked_if_failed(self.maker.logger):
            return self._run()

    def _run(self) -> dict[str, Any]:
        if is_rank_zero():
            record_job(self.stages, self.folder, {stage.key for stage in self.graph.values()})
        stages = {role: ensure(stage, self.stages, self.command) for role, stage in self.graph.items()}
        if not is_rank_zero():
            return {}
        parent, evaluation = stages["parent"], stages["evaluation"]
        final, parent_evaluation = stages.get("child", parent), stages.get("parent evaluation", evaluation)
        checkpoint, parent_checkpoint = (stage.folder / CHECKPOINT for stage in (final, parent))
        scores = dense_scores = self._scores(evaluation)
        if final is not parent:
            dense_scores = self._scores(parent_evaluation)
        log.info("timing %s on %s", "the tracker" if final is parent else "child and parent", self.cfg.device)
        result = self._record(stages) | describe_result(
            checkpoint, parent_checkpoint, scores, dense_scores, self.cfg.device
        )
        link_or_copy(checkpoint, self.folder / CHECKPOINT)
        link_folder(evaluation.folder / "boxes", self.folder / "boxes")
        OmegaConf.save(self.cfg, self.folder / "config.yaml")
        scores["sequences"].write(
            self.folder / SEQUENCES, None if dense_scores is scores else dense_scores["sequences"]
        )
        write_json(self.folder / "result.json", result)
        for warning in maker_warnings([result]):
            log.warning(warning)
        child = None if final is parent else checkpoint
        trained = self.trains_parent and not parent.cached
        finish_logger(self.maker.logger, result, parent_checkpoint, child, trained)
        return result

    @property
    def parent_checkpoint(self) -> Path:
        """The file of the parent, which exists when the job has run."""
        return self.stages / self.graph["parent"].key / CHECKPOINT

    def group_table(self) -> Table:
        """Returns a table of the parent's groups and of the units that the child keeps; the job must have run."""
        parent = load_checkpoint(self.parent_checkpoint)
        child = load_checkpoint(self.folder / CHECKPOINT)
        kept = {name: len(units) for name, units in child.plan.kept.items()}
        return group_table(parent.tracker.network, parent.tracker.groups(), kept, parent.tracker.frame_inputs)

    def _scores(self, evaluation: FinishedStage) -> dict[str, Any]:
        return self.maker.benchmark.scores(self.maker.boxes(evaluation.folder))

    def _record(self, stages: dict[str, FinishedStage]) -> dict[str, Any]:
        seconds = {role: "cached" if stage.cached else stage.seconds for role, stage in stages.items()}
        made = {role: {"key": self.graph[role].key} | stage.provenance for role, stage in stages.items()}
        return {"job": self.folder.name, "status": "finished"} | self.identity | {"seconds": seconds, "stages": made}
