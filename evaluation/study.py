"""A job of a study: parent, sparsity, child and evaluation for one tracker and one ratio."""

import hashlib
import importlib.metadata
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from rich.console import Console
from rich.table import Table

from datamodules.sequences import Sequence
from evaluation.files import write_json
from evaluation.loggers import finish_logger
from evaluation.profile import latencies
from evaluation.runner import run_benchmark, still_box
from evaluation.stages import Made, Stage, digest, ensure
from pruning.budget import check_ratio
from pruning.callback import PruningCallback
from pruning.cost import count_macs, count_params
from trackers.checkpoint import Checkpoint, build_tracker, load_checkpoint
from trackers.online import OnlineTracker

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
RESUME = "resume"
PACKAGES = ("torch", "timm", "pytorch-lightning", "hydra-core")
# Keys that decide where and how fast a result comes, not what it is.
NO_EFFECT = {"workers", "cache", "progress", "enable_model_summary", "log_every_n_steps"}


class Job:
    """One tracker, one ratio.

    Args:
        cfg: the composed configuration.
        folder: where the job's results go.
        parent: a checkpoint to prune instead of a parent trained here.
    """

    def __init__(self, cfg: DictConfig, folder: Path, parent: Path | None = None):
        self.cfg, self.folder, self.given_parent = cfg, folder, parent
        self.plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)
        self.stages = Path(cfg.paths.cache) / "stages"

    # Before anything is trained

    def check(self) -> None:
        """Finds out early what would fail late.

        Raises:
            ValueError: a setting, a checkpoint or a data set is not usable.
        """
        check_ratio(self.cfg.ratio)
        if self.cfg.ratio < 1:
            with torch.device("meta"):
                tracker = build_tracker(self.plain["tracker"])
            self._pruning().check(tracker.network, tracker.groups())
        instantiate(self.cfg.datamodule).check()
        self.benchmark  # noqa: B018 (reads it)

    @cached_property
    def benchmark(self) -> list[Sequence]:
        """The sequences to score on."""
        return instantiate(self.cfg.benchmark.sequences)

    @cached_property
    def logger(self) -> Any:
        """One logger for all stages of the job; False for none."""
        return instantiate(self.cfg.logger, settings=self.plain, _recursive_=False, _convert_="all")

    # The stages

    def parent(self) -> Made:
        """The dense tracker, or the one that was given."""
        if self.given_parent is not None:
            return self._ensure("parent", {"file": digest(_identity(self.given_parent))}, self._take_parent)
        return self._ensure("parent", {"tracker": self.plain["tracker"]} | self._training("parent"), self._train_parent)

    def sparsity(self, parent: Made) -> Made:
        """The parent with masks annealed to the ratio, compacted."""
        depends = {"from": parent.folder.name, "pruning": self.plain["pruning"], "ratio": self.cfg.ratio}
        return self._ensure("sparsity", depends | self._training("sparsity"), lambda f: self._train_sparsity(f, parent))

    def child(self, sparse: Made) -> Made:
        """The compacted tracker, fine-tuned."""
        depends = {"from": sparse.folder.name} | self._training("child")
        return self._ensure("child", depends, lambda f: self._train_child(f, sparse))

    def evaluation(self, made: Made) -> Made:
        """Boxes and scores of a checkpoint on the benchmark."""
        depends = {"from": made.folder.name, "benchmark": self.plain["benchmark"]}
        return self._ensure("evaluation", depends, lambda f: self._evaluate(f, made))

    def _ensure(self, name: str, depends: dict[str, Any], make: Any) -> Made:
        return ensure(Stage(name, _effective(depends), make), self.stages, self.cfg.force)

    def _training(self, name: str) -> dict[str, Any]:
        """What every training depends on."""
        shared = {key: self.plain[key] for key in ("datamodule", "trainer", "callbacks", "seed")}
        return shared | {"stage": self.plain["stages"][name]}

    def _take_parent(self, folder: Path) -> None:
        shutil.copyfile(self.given_parent, folder / CHECKPOINT)

    def _train_parent(self, folder: Path) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        recipe = self.plain["tracker"]
        tracker = build_tracker(recipe)
        self._fit(tracker, "parent", folder)
        Checkpoint(tracker, recipe, config=self.plain).save(folder / CHECKPOINT)

    def _train_sparsity(self, folder: Path, parent: Made) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        start = load_checkpoint(parent.folder / CHECKPOINT)
        pruning = self._pruning()
        self._fit(start.tracker, "sparsity", folder, pruning)
        inputs = {k: torch.randn_like(v) for k, v in start.tracker.example_inputs().items()}
        metrics = pruning.finish(start.tracker.network, inputs)
        plan = start.plan.then(pruning.plan)
        Checkpoint(start.tracker, start.recipe, plan, metrics, self.plain).save(folder / CHECKPOINT)

    def _train_child(self, folder: Path, sparse: Made) -> None:
        L.seed_everything(self.cfg.seed, verbose=False)
        start = load_checkpoint(sparse.folder / CHECKPOINT)
        self._fit(start.tracker, "child", folder)
        Checkpoint(start.tracker, start.recipe, start.plan, start.metrics, self.plain).save(folder / CHECKPOINT)

    def _evaluate(self, folder: Path, made: Made) -> None:
        online = OnlineTracker(load_checkpoint(made.folder / CHECKPOINT).tracker, self.cfg.device)
        report = run_benchmark(online, self.benchmark, folder / "boxes" / self.cfg.benchmark.name)
        write_json(folder / "metrics.json", {"metrics": report, "still_box": still_box(self.benchmark)})

    def _fit(self, tracker: L.LightningModule, name: str, folder: Path, *extra: Callback) -> None:
        """Trains for the stage's steps; an interrupted stage goes on from its last finished epoch."""
        stage = self.cfg.stages[name]
        _hush()
        tracker.train()
        tracker.stage, tracker.lr_scale = name, stage.lr_scale
        last = ModelCheckpoint(folder / RESUME, "last", enable_version_counter=False, save_on_train_epoch_end=True)
        callbacks = [*(instantiate(c) for c in self.cfg.callbacks.values()), *extra, last]
        trainer = instantiate(
            self.cfg.trainer, max_steps=stage.steps, callbacks=callbacks, logger=self.logger, default_root_dir=folder
        )
        begun = folder / RESUME / "last.ckpt"
        trainer.fit(tracker, instantiate(self.cfg.datamodule), ckpt_path=begun if begun.is_file() else None)
        if trainer.interrupted:
            raise KeyboardInterrupt
        shutil.rmtree(folder / RESUME, ignore_errors=True)

    def _pruning(self) -> PruningCallback:
        return instantiate(self.cfg.pruning.callback, ratio=self.cfg.ratio)

    # The whole job

    def run(self) -> dict[str, Any]:
        """Makes or finds every stage, and leaves `result.json`, the checkpoint and the boxes in the job's folder."""
        made = {"parent": self.parent()}
        final = made["parent"]
        if self.cfg.ratio < 1:
            made["sparsity"] = self.sparsity(final)
            made["child"] = final = self.child(made["sparsity"])
        parent_scores = self.evaluation(made["parent"])
        made["evaluation"] = scores = self.evaluation(final)
        result = self._result(made, final, scores, parent_scores)
        shutil.copyfile(final.folder / CHECKPOINT, self.folder / CHECKPOINT)
        shutil.copytree(scores.folder / "boxes", self.folder / "boxes", dirs_exist_ok=True)
        OmegaConf.save(self.cfg, self.folder / "config.yaml", resolve=True)
        write_json(self.folder / "result.json", result)
        finish_logger(self.logger, result)
        return result

    def _result(self, made: dict[str, Made], final: Made, scores: Made, parent_scores: Made) -> dict[str, Any]:
        cfg, name = self.cfg, self.cfg.benchmark.name
        checkpoint, parent = (load_checkpoint(m.folder / CHECKPOINT) for m in (final, made["parent"]))
        measured, dense = _read(scores), _read(parent_scores)
        clocks = latencies({"child": checkpoint.tracker, "parent": parent.tracker}, cfg.device)
        about = {"child": _size(checkpoint), "parent": _size(parent)}
        numbers = ("AO", "SR0.5", "SR0.75")
        return {
            "job": self.folder.name,
            "status": "finished",
            "tracker": cfg.tracker._target_.rsplit(".", 1)[1].lower(),
            "scale": cfg.scale,
            "ratio": cfg.ratio,
            "ratio_of": cfg.pruning.callback.ratio_of,
            "method": cfg.pruning.name,
            "seed": cfg.seed,
            **about["child"],
            "ratio_achieved": checkpoint.metrics.get("ratio_achieved", 1.0),
            "units": _units(checkpoint),
            "metrics": {name: measured["metrics"]},
            "still_box": {name: measured["still_box"]},
            "latency": {cfg.device: clocks["child"]},
            "parent": {
                **about["parent"],
                "metrics": {name: dense["metrics"]},
                "latency": {cfg.device: clocks["parent"]},
            },
            "retention": {name: {k: _share(measured["metrics"][k], dense["metrics"][k]) for k in numbers}},
            "masked_vs_compacted": checkpoint.metrics.get("masked_vs_compacted"),
            "seconds": {k: "cached" if m.cached else m.seconds for k, m in made.items()},
            "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
            "config_hash": digest(self.plain),
        }


def run_job(cfg: DictConfig, parent: Path | None = None) -> dict[str, Any]:
    """Runs a job in the folder that the configuration names, or says in one message why it cannot.

    Args:
        cfg: conf/train.yaml or conf/prune.yaml, composed.
        parent: a checkpoint to prune; its recipe becomes `cfg.tracker`.
    """
    with _one_message(cfg):
        if parent is not None:
            OmegaConf.update(cfg, "tracker", load_checkpoint(parent).recipe)
        _use_threads(cfg)
        job = Job(cfg, Path(cfg.paths.job), parent)
        job.check()
    result = job.run()
    _print_table(result)
    log.info("results in %s", job.folder)
    return result


def score(cfg: DictConfig) -> dict[str, Any]:
    """Scores one checkpoint on one benchmark, as conf/eval.yaml says."""
    with _one_message(cfg):
        _use_threads(cfg)
        checkpoint = load_checkpoint(cfg.checkpoint)
        sequences = instantiate(cfg.benchmark.sequences)
    folder = Path(cfg.paths.job)
    name = cfg.benchmark.name
    report = run_benchmark(OnlineTracker(checkpoint.tracker, cfg.device), sequences, folder / "boxes" / name)
    result = {"checkpoint": str(cfg.checkpoint), "metrics": {name: report}, "still_box": {name: still_box(sequences)}}
    write_json(folder / "result.json", result | _size(checkpoint))
    _print_table(result | _size(checkpoint))
    log.info("results in %s", folder)
    return result


@contextmanager
def _one_message(cfg: DictConfig) -> Iterator[None]:
    """Bad input ends a run with one message; in a sweep it fails that job, and the others go on."""
    try:
        yield
    except (ValueError, OSError, InstantiationException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ValueError(str(cause)) from error
        raise SystemExit(f"error: {cause}") from None


def _use_threads(cfg: DictConfig) -> None:
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)


def _print_table(result: dict[str, Any]) -> None:
    table = Table(title="protocol GOT-10k; macs and params counted on the built network")
    name = next(iter(result["metrics"]))
    numbers = {k: f"{v:.3f}" for k, v in result["metrics"][name].items() if isinstance(v, float)}
    columns = {"benchmark": name} | numbers | {"AO of a still box": f"{result['still_box'][name]['AO']:.3f}"}
    columns |= {"params": f"{result['params']:,}", "MACs": f"{result['macs']['total']:,}"}
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(*columns.values())
    Console().print(table)


def _hush() -> None:
    """Lightning's advertisements and remarks that do not concern us, such as that nothing is validated."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for remark in (
        "Total length of `list`",
        ".*treespec",
        ".*does not have many workers",
        ".*smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", remark)


def _effective(plain: Any) -> Any:
    """`plain` without the keys that have no effect on results."""
    if isinstance(plain, dict):
        return {k: _effective(v) for k, v in plain.items() if k not in NO_EFFECT}
    return [_effective(v) for v in plain] if isinstance(plain, list) else plain


def _size(checkpoint: Checkpoint) -> dict[str, Any]:
    network = checkpoint.tracker.network
    macs = count_macs(network, checkpoint.tracker.example_inputs())
    params = count_params(network)
    return {"params": params, "live_params": params, "macs": {"total": macs.total, "parts": macs.parts}}


def _units(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Kept and full size of every group of the network that the recipe builds."""
    with torch.device("meta"):
        groups = build_tracker(checkpoint.recipe).groups()
    return {g.name: {"kind": g.kind, "kept": len(checkpoint.plan.units(g)), "size": g.size} for g in groups}


def _share(child: float, parent: float) -> float | None:
    """Retention; None where the parent has nothing to retain."""
    return child / parent if parent > 0 else None


def _read(made: Made) -> dict[str, Any]:
    return json.loads((made.folder / "metrics.json").read_text())


def _identity(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
