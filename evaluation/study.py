"""A job of a study: parent, sparsity, child and evaluation for one tracker and one ratio."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from fnmatch import fnmatchcase
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
from evaluation.devices import anywhere
from evaluation.files import write_json
from evaluation.loggers import finish_logger, marked_if_failed
from evaluation.ranks import leads
from evaluation.results import describe
from evaluation.runner import Runner
from evaluation.stages import Made, Stage, digest, ensure, identity, state
from evaluation.tracks import is_tracked
from evaluation.training import fit, progress
from pruning.budget import check_ratio
from pruning.callback import PruningCallback
from pruning.table import group_table
from trackers.base import Tracker
from trackers.checkpoint import LIBRARY, Checkpoint, load_checkpoint, read_checkpoint, start

CHECKPOINT = "checkpoint.safetensors"
RANKING = "ranking.pt"
# Keys that decide where and how fast a result comes, not what it is; with wildcards.
NO_EFFECT = (
    *("datamodule.workers", "datamodule.cache", "datamodule.*.cache", "benchmark.*.cache", "callbacks.progress.*"),
    *("trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.strategy"),
)
# Of `pruning`: what a training sees of which no unit leaves before its end, and what only such a training sees.
OF_RANKING = ("criterion", "kinds", "protect")
OF_ANNEALING = ("schedule", "every", "decay")
# Keys of the whole configuration that no number in a job's result depends on.
NOT_IN_RESULT = ("paths", "logger", "force", "dry_run", "resume_every", "runner", "objective")


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
        self.plain: dict[str, Any] = anywhere(OmegaConf.to_container(cfg, resolve=True))
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
        settings = self.plain | {"job": self.about}
        return instantiate(self.cfg.logger, settings=settings, _recursive_=False, _convert_="all")

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
        return bool(self.cfg.stages.sparsity.steps) and self.pruning.ranks_once

    def _parent(self) -> Stage:
        """The dense tracker, or the one that was given."""
        depends: dict[str, Any] = {"tracker": self.plain["tracker"]}
        if self.cfg.checkpoint is not None:
            depends["start"] = identity(self.cfg.checkpoint)
        if self._is_file:
            depends["gates"] = self.plain["gates"]
        if not self.train_parent or (self._is_whole and not self.cfg.stages.parent.steps):
            return self._stage("parent", depends, self._take_parent)
        depends |= {"seed": self.cfg.seed} | self._training("parent")
        return self._stage("parent", depends, self._train_parent, progress=progress)

    def _ranking(self, parent: Stage) -> Stage:
        """The parent after a sparsity training that does not depend on the ratio: uncut, with what it says of units."""
        pruning = {key: self.plain["pruning"][key] for key in OF_RANKING}
        depends = {"pruning": pruning} | self._training("sparsity") | self._distillation()
        return self._stage("ranking", depends, lambda f: self._train_ranking(f, parent), (parent,), progress)

    def _sparsity(self, ranked: Stage, parent: Stage) -> Stage:
        """The parent, compacted to the ratio: after a training that anneals masks, or right away."""
        trains = bool(self.cfg.stages.sparsity.steps) and not self._ranks_once
        pruning = {k: v for k, v in self.plain["pruning"].items() if trains or k not in OF_ANNEALING}
        del pruning["device"]
        depends: dict[str, Any] = {"pruning": pruning, "ratio": self.cfg.ratio}
        if pruning["ratio_of"] == "latency":
            depends["measured"] = {"device": self.plain["pruning"]["device"], "threads": self.cfg.threads}
        if not trains:
            return self._stage("sparsity", depends, lambda f: self._cut(f, ranked), (ranked,))
        depends |= self._training("sparsity") | self._distillation()
        return self._stage("sparsity", depends, lambda f: self._train_sparsity(f, parent), (parent,), progress)

    def _child(self, sparse: Stage, parent: Stage) -> Stage:
        """The compacted tracker, fine-tuned."""
        depends = self._training("child")
        after = (sparse,)
        if depends and self.plain["distillation"]:
            depends, after = depends | self._distillation(), (sparse, parent)
        return self._stage("child", depends, lambda f: self._train_child(f, sparse, parent), after, progress)

    def _evaluation(self, tracker: Stage) -> Stage:
        """What a checkpoint's tracker says about the benchmark's sequences."""
        return self._stage(
            "evaluation", self.benchmark.tracked(), lambda f: self._evaluate(f, tracker), (tracker,), self._tracked
        )

    def _stage(
        self,
        name: str,
        depends: dict[str, Any],
        make: Callable[[Path], None],
        after: tuple[Stage, ...] = (),
        progress: Callable[[Path], str] | None = None,
    ) -> Stage:
        return Stage(name, _effective(depends), make, after, progress)

    def _training(self, name: str) -> dict[str, Any]:
        """What every training depends on; nothing if the stage does not train."""
        stage = self.plain["stages"][name]
        if not stage["steps"]:
            return {}
        shared = {key: self.plain[key] for key in ("datamodule", "trainer", "callbacks", "seed")}
        return shared | {"stage": {key: stage[key] for key in ("steps", "lr_scale")}}

    def _distillation(self) -> dict[str, Any]:
        """What the trainings that may learn from the parent depend on besides; nothing if they do not."""
        return {"distillation": self.plain["distillation"]} if self.plain["distillation"] else {}

    # What is known of the checkpoint that the parent starts from

    @property
    def _is_file(self) -> bool:
        return self.cfg.checkpoint not in (None, LIBRARY)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether it is a tracker, so that nothing of the parent is drawn at random."""
        return self._is_file and read_checkpoint(self.cfg.checkpoint).recipe is not None

    # Making them; each is in a folder of its own

    def _folder(self, stage: Stage) -> Path:
        return self.stages / stage.key

    def _load(self, stage: Stage) -> Checkpoint:
        return load_checkpoint(self._folder(stage) / CHECKPOINT)

    def _start(self) -> Checkpoint:
        """What the parent is, or starts from."""
        return start(self.plain["tracker"], self.cfg.checkpoint, instantiate(self.cfg.gates))

    def _teach(self, student: Tracker, parent: Stage) -> None:
        if self.plain["distillation"]:
            student.teacher = instantiate(self.cfg.distillation)(self._load(parent).tracker)

    def _take_parent(self, folder: Path) -> None:
        self._start().save(folder / CHECKPOINT)

    def _train_parent(self, folder: Path) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._start()
        fit(self.cfg, begun.tracker, "parent", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, config=self.plain).save(folder / CHECKPOINT)

    def _train_ranking(self, folder: Path, parent: Stage) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._load(parent)
        self._teach(begun.tracker, parent)
        fit(self.cfg, begun.tracker, "sparsity", folder, self.logger, self.pruning)
        torch.save(self.pruning.learned(), folder / RANKING)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, config=self.plain).save(folder / CHECKPOINT)

    def _train_sparsity(self, folder: Path, parent: Stage) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._load(parent)
        self._teach(begun.tracker, parent)
        fit(self.cfg, begun.tracker, "sparsity", folder, self.logger, self.pruning)
        self._compact(folder, begun)

    def _cut(self, folder: Path, ranked: Stage) -> None:
        begun, learned = self._load(ranked), self._folder(ranked) / RANKING
        self.pruning.attach(begun.tracker.network, begun.tracker.groups(), begun.tracker.frame_inputs)
        if learned.is_file():
            self.pruning.recall(torch.load(learned, map_location="cpu", weights_only=True))
        self.pruning.update()
        self._compact(folder, begun)

    def _compact(self, folder: Path, begun: Checkpoint) -> None:
        torch.manual_seed(0)  # of the inputs that masked and compacted network are compared on, the same for all
        metrics = self.pruning.finish([begun.tracker.example_inputs() for _ in range(3)])
        plan = begun.plan.then(self.pruning.plan)
        Checkpoint(begun.tracker, begun.recipe, plan, metrics, self.plain).save(folder / CHECKPOINT)

    def _train_child(self, folder: Path, sparse: Stage, parent: Stage) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._load(sparse)
        self._teach(begun.tracker, parent)
        fit(self.cfg, begun.tracker, "child", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, begun.metrics, self.plain).save(folder / CHECKPOINT)

    def _boxes(self, folder: Path) -> Path:
        return folder / "boxes" / self.benchmark.name

    def _evaluate(self, folder: Path, tracker: Stage) -> None:
        if not leads():
            return
        load = partial(load_checkpoint, self._folder(tracker) / CHECKPOINT)
        self.runner.run(load, self.benchmark.sequences, self._boxes(folder))

    def _tracked(self, folder: Path) -> str:
        """How far an evaluation got."""
        sequences = self.benchmark.sequences
        done = sum(is_tracked(self._boxes(folder), s) for s in sequences)
        return f"{done} of {len(sequences)} sequences" if done else ""

    # The whole job

    @cached_property
    def config_hash(self) -> str:
        """The same for jobs whose results can only differ in times."""
        return digest(_effective({key: value for key, value in self.plain.items() if key not in NOT_IN_RESULT}))

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
        with marked_if_failed(self.logger):
            return self._run()

    def _run(self) -> dict[str, Any]:
        self.made = made = {role: ensure(stage, self.stages, self.since) for role, stage in self.graph.items()}
        if not leads():
            return {}
        parent = made["parent"]
        final, parent_tracked = made.get("child", parent), made.get("parent evaluation", made["evaluation"])
        checkpoint, parent_checkpoint = (m.folder / CHECKPOINT for m in (final, parent))
        result = self._told(made) | describe(
            *(load_checkpoint(path) for path in (checkpoint, parent_checkpoint)),
            *(self.benchmark.scores(self._boxes(m.folder)) for m in (made["evaluation"], parent_tracked)),
            self.cfg.device,
        )
        shutil.copyfile(checkpoint, self.folder / CHECKPOINT)
        shutil.copytree(made["evaluation"].folder / "boxes", self.folder / "boxes", dirs_exist_ok=True)
        OmegaConf.save(self.cfg, self.folder / "config.yaml", resolve=True)
        write_json(self.folder / "result.json", result)
        child = None if final is parent else checkpoint
        trained = self.train_parent and not parent.cached
        finish_logger(self.logger, result, parent_checkpoint, child, trained)
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

    def _method(self) -> str:
        method = _chosen("pruning").split("/")[0]  # icassp2023/TRACKER is one method, with a file a tracker
        return method + (" + distillation" if self.plain["distillation"] else "")

    def _tracker_name(self) -> str:
        """The choice of `tracker=...`, or the class of a checkpoint's."""
        return _chosen("tracker") or self.cfg.tracker._target_.rsplit(".", 1)[1].lower()


def _chosen(group: str) -> str | None:
    """The choice of a config group on the command line or among the defaults."""
    return HydraConfig.get().runtime.choices.get(group)


def _effective(plain: Any, at: str = "") -> Any:
    """`plain` without the keys that have no effect on results."""
    if isinstance(plain, list):
        return [_effective(value, at) for value in plain]
    if not isinstance(plain, dict):
        return plain
    paths = {key: f"{at}.{key}" if at else str(key) for key in plain}
    kept = [key for key, path in paths.items() if not any(fnmatchcase(path, pattern) for pattern in NO_EFFECT)]
    return {key: _effective(plain[key], paths[key]) for key in kept}
