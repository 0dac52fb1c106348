"""How the stages of a job are made: each fills a folder of its own, from those of the stages that it comes after."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from evaluation.processes.ranks import is_rank_zero
from evaluation.study.stage import Stage
from evaluation.study.training import fit
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.result_files import is_tracked
from evaluation.tracking.runner import Runner
from pruning.callback import PruningCallback
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint, start

CHECKPOINT = "checkpoint.safetensors"
RANKING = "ranking.pt"


class StageMaker:
    """What makes stages, as a configuration says.

    Args:
        cfg: the composed configuration.
        plain: the same as plain data.
        stages: the folder with the folders of all stages.
        about: says what tells the job from others, for its logger.
    """

    def __init__(self, cfg: DictConfig, plain: dict[str, Any], stages: Path, about: Callable[[], dict[str, Any]]):
        self.cfg, self.plain, self.stages, self.about = cfg, plain, stages, about

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
        settings = self.plain | {"job": self.about()}
        return instantiate(self.cfg.logger, settings=settings, _recursive_=False, _convert_="all")

    def start(self) -> Checkpoint:
        """What the parent is, or starts from."""
        return start(self.plain["tracker"], self.cfg.checkpoint, instantiate(self.cfg.gates))

    def take_parent(self, folder: Path) -> None:
        """The parent, as it was given."""
        self.start().save(folder / CHECKPOINT)

    def train_parent(self, folder: Path) -> None:
        """The parent, trained from what it starts from."""
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self.start()
        fit(self.cfg, begun.tracker, "parent", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, config=self.plain).save(folder / CHECKPOINT)

    def train_ranking(self, folder: Path, parent: Stage) -> None:
        """The parent after the sparsity training, uncut, and what was learned of its units."""
        begun = self._begin(parent, parent)
        fit(self.cfg, begun.tracker, "sparsity", folder, self.logger, self.pruning)
        torch.save(self.pruning.learned(), folder / RANKING)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, config=self.plain).save(folder / CHECKPOINT)

    def train_sparsity(self, folder: Path, parent: Stage) -> None:
        """The parent, cut at the end of a training that anneals its masks."""
        begun = self._begin(parent, parent)
        fit(self.cfg, begun.tracker, "sparsity", folder, self.logger, self.pruning)
        self._compact(folder, begun)

    def cut(self, folder: Path, ranked: Stage) -> None:
        """The parent, cut at once by what is known of its units."""
        begun, learned = self._load(ranked), self._folder(ranked) / RANKING
        self.pruning.attach(begun.tracker.network, begun.tracker.groups(), begun.tracker.frame_inputs)
        if learned.is_file():
            self.pruning.recall(torch.load(learned, map_location="cpu", weights_only=True))
        self.pruning.update()
        self._compact(folder, begun)

    def train_child(self, folder: Path, sparse: Stage, parent: Stage) -> None:
        """The cut tracker, fine-tuned."""
        begun = self._begin(sparse, parent)
        fit(self.cfg, begun.tracker, "child", folder, self.logger)
        Checkpoint(begun.tracker, begun.recipe, begun.plan, begun.metrics, self.plain).save(folder / CHECKPOINT)

    def evaluate(self, folder: Path, tracker: Stage) -> None:
        """What a stage's tracker says about the benchmark's sequences."""
        if is_rank_zero():
            load = partial(load_checkpoint, self._folder(tracker) / CHECKPOINT)
            self.runner.run(load, self.benchmark.sequences, self.boxes(folder))

    def tracked(self, folder: Path) -> str:
        """How far an evaluation got."""
        sequences = self.benchmark.sequences
        done = sum(is_tracked(self.boxes(folder), s) for s in sequences)
        return f"{done} of {len(sequences)} sequences" if done else ""

    def boxes(self, folder: Path) -> Path:
        """Where in an evaluation's folder its boxes are."""
        return folder / "boxes" / self.benchmark.name

    def _begin(self, stage: Stage, parent: Stage) -> Checkpoint:
        """A stage's tracker, about to be trained, with its teacher if it has one."""
        L.seed_everything(self.cfg.seed, verbose=False)
        begun = self._load(stage)
        if self.plain["distillation"]:
            teach: Callable[[Tracker], Any] = instantiate(self.cfg.distillation)
            begun.tracker.teacher = teach(self._load(parent).tracker)
        return begun

    def _compact(self, folder: Path, begun: Checkpoint) -> None:
        torch.manual_seed(0)  # of the inputs that masked and compacted network are compared on, the same for all
        metrics = self.pruning.finish([begun.tracker.example_inputs() for _ in range(3)])
        plan = begun.plan.then(self.pruning.plan)
        Checkpoint(begun.tracker, begun.recipe, plan, metrics, self.plain).save(folder / CHECKPOINT)

    def _folder(self, stage: Stage) -> Path:
        return self.stages / stage.key

    def _load(self, stage: Stage) -> Checkpoint:
        return load_checkpoint(self._folder(stage) / CHECKPOINT)
