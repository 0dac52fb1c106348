"""Makes the stages of a job. A stage reads the folders of the stages before it, and fills a folder of its own."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evaluation.processes.devices import arithmetic
from evaluation.processes.ranks import is_rank_zero
from evaluation.study.cache_keys import measures_times
from evaluation.study.finite_training import check_finite
from evaluation.study.parent_source import ParentSource
from evaluation.study.stage import Stage
from evaluation.study.training import fit
from evaluation.tracking.benchmark import Benchmark, build_benchmark
from evaluation.tracking.benchmark_run import run_benchmark
from evaluation.tracking.result_files import tracking_progress
from evaluation.tracking.runner import Runner
from pruning.callback import PruningCallback
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import Checkpoint, initial_checkpoint, load_checkpoint
from trackers.loading import read_tracker

CHECKPOINT = "checkpoint.safetensors"
RANKING = "ranking.pt"


class StageMaker:
    """Makes the stages of a job as its configuration says.

    Args:
        cfg: the resolved configuration.
        source: source of the parent.
        stages: the folder that holds the folders of all stages.
        identity: see `Job.identity`; the logger stores it.
    """

    def __init__(self, cfg: DictConfig, source: ParentSource, stages: Path, identity: dict[str, Any]):
        self.cfg, self.source, self.stages, self.identity = cfg, source, stages, identity
        self._loaded: Checkpoint | None = None

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark that parent and child are scored on."""
        return build_benchmark(self.cfg.benchmark)

    def training_content(self) -> dict[str, Any]:
        """Returns the content of the training data as plain data for a cache key."""
        # Tables of data are not kept: other processes of the job get a copy of this object.
        return instantiate(self.cfg.datamodule).content()

    @cached_property
    def runner(self) -> Runner:
        """The runner that tracks the benchmark's sequences."""
        return instantiate(self.cfg.runner)

    @cached_property
    def pruning(self) -> PruningCallback:
        """The callback that makes the child."""
        return instantiate(self.cfg.pruning, ratio=self.cfg.ratio)

    @cached_property
    def logger(self) -> Any:
        """The logger of all stages of the job; False for none."""
        settings = self._settings | {"job": self.identity}
        return instantiate(self.cfg.logger, settings=settings, _recursive_=False, _convert_="all")

    def initial_tracker(self) -> Tracker:
        """Returns the given parent, or the tracker from which its training starts, to check the configuration with.

        Only what the checks need is loaded: without a checkpoint the tracker lies on the `meta` device, unless
        times are measured. A tracker from a file is kept for `take_parent` and `train_parent`.
        """
        measures = measures_times(self.cfg.pruning) and self.cfg.ratio < 1
        if self.source.checkpoint is None and not measures:
            with torch.device("meta"):
                return self._initial().tracker
        loaded = self._initial()
        if self.source.is_whole:
            self._loaded = loaded
        return loaded.tracker

    def take_parent(self, folder: Path) -> None:
        """Saves the given parent without training it."""
        self._take_initial().save(folder / CHECKPOINT)

    def train_parent(self, folder: Path) -> None:
        """Trains the parent from its source, and saves it."""
        L.seed_everything(self.cfg.seed, verbose=False)
        initial = self._take_initial()
        fit(self.cfg, initial.tracker, "parent", folder, self.logger)
        Checkpoint(initial.tracker, initial.recipe, initial.plan, config=self._settings).save(folder / CHECKPOINT)

    def train_ranking(self, folder: Path, parent: Stage) -> None:
        """Trains the parent in a sparsity stage that cuts nothing, and saves what it learns about the units."""
        initial = self._load_for_training(parent, parent)
        fit(self.cfg, initial.tracker, "sparsity", folder, self.logger, self.pruning)
        ranking = self.pruning.ranking_state()
        check_finite("sparsity", {"ranking": ranking})
        torch.save(ranking, folder / RANKING)
        Checkpoint(initial.tracker, initial.recipe, initial.plan, config=self._settings).save(folder / CHECKPOINT)

    def train_sparsity(self, folder: Path, parent: Stage) -> None:
        """Trains the parent while its mask is annealed, then cuts it."""
        initial = self._load_for_training(parent, parent)
        fit(self.cfg, initial.tracker, "sparsity", folder, self.logger, self.pruning)
        self._compact(folder, initial)

    def cut(self, folder: Path, ranked: Stage) -> None:
        """Cuts the parent at once: by the ranking that its stage has learned, or by scores that need no training."""
        initial, learned = self._load(ranked), self._folder(ranked) / RANKING
        self.pruning.attach(initial.tracker.network, initial.tracker.groups(), initial.tracker.frame_inputs)
        if learned.is_file():
            self.pruning.load_ranking(torch.load(learned, map_location="cpu", weights_only=True))
        self.pruning.update()
        self._compact(folder, initial)

    def train_child(self, folder: Path, sparse: Stage, parent: Stage) -> None:
        """Fine-tunes the cut tracker."""
        initial = self._load_for_training(sparse, parent)
        fit(self.cfg, initial.tracker, "child", folder, self.logger)
        child = Checkpoint(initial.tracker, initial.recipe, initial.plan, initial.metrics, self._settings)
        child.save(folder / CHECKPOINT)

    def evaluate(self, folder: Path, tracker: Stage, reuse: bool) -> None:
        """Runs a stage's tracker over the benchmark's sequences; of `reuse` see `run_benchmark`."""
        if is_rank_zero():
            read = partial(read_tracker, self._folder(tracker) / CHECKPOINT)
            identity = [tracker.key, arithmetic(self.runner.devices)]
            run_benchmark(self.runner, read, self.benchmark, folder, identity, reuse)

    def evaluation_progress(self, folder: Path) -> str:
        """Returns the progress of an interrupted evaluation in words, "" if it has not started."""
        return tracking_progress(self.boxes(folder), self.benchmark.sequences)

    def boxes(self, folder: Path) -> Path:
        """Returns the folder of the result files in the folder of an evaluation."""
        return folder / "boxes" / self.benchmark.name

    @property
    def _settings(self) -> dict[str, Any]:
        settings: Any = OmegaConf.to_container(self.cfg)
        return settings

    def _initial(self) -> Checkpoint:
        recipe: Any = OmegaConf.to_container(self.cfg.tracker)
        return initial_checkpoint(recipe, self.source.checkpoint, instantiate(self.cfg.gates))

    def _take_initial(self) -> Checkpoint:
        """Returns the tracker that the checks have loaded, or loads it; a training may change it."""
        loaded, self._loaded = self._loaded, None
        return loaded or self._initial()

    def _load_for_training(self, stage: Stage, parent: Stage) -> Checkpoint:
        """Loads the tracker of a stage, and the parent as its teacher if there is distillation."""
        L.seed_everything(self.cfg.seed, verbose=False)
        loaded = self._load(stage)
        if self.cfg.distillation:
            build_teacher: Callable[[Tracker], Any] = instantiate(self.cfg.distillation)
            loaded.tracker.teacher = build_teacher(self._load(parent).tracker)
        return loaded

    def _compact(self, folder: Path, trained: Checkpoint) -> None:
        torch.manual_seed(0)  # masked and compacted network are compared on the same random inputs in every job
        metrics = self.pruning.finish([trained.tracker.example_inputs() for _ in range(3)])
        plan = trained.plan.followed_by(self.pruning.plan)
        Checkpoint(trained.tracker, trained.recipe, plan, metrics, self._settings).save(folder / CHECKPOINT)

    def _folder(self, stage: Stage) -> Path:
        return self.stages / stage.key

    def _load(self, stage: Stage) -> Checkpoint:
        return load_checkpoint(self._folder(stage) / CHECKPOINT)
