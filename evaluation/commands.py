"""What the three scripts call."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from evaluation.files import write_json
from evaluation.results import size_of
from evaluation.runner import run_benchmark, still_box
from evaluation.study import Job
from trackers.checkpoint import load_checkpoint, recipe_of
from trackers.online import OnlineTracker

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, train_parent: bool = True) -> None:
    """Runs a job in the folder that the configuration names, or says in one message why it cannot.

    Args:
        cfg: conf/train.yaml or conf/prune.yaml, composed.
        train_parent: whether the job trains its parent. If not, `cfg.checkpoint` is the parent, and its recipe becomes
            `cfg.tracker`, with the changes that this asks for.
    """
    with _one_message():
        _use_threads(cfg)
        if not train_parent:
            _complete_recipe(cfg)
        job = Job(cfg, Path(cfg.paths.job), train_parent)
        job.check()
    result = job.run()
    if not train_parent:
        Console(width=max(Console().width, 120)).print(job.group_table())
    _print_table(result)
    log.info("results in %s", job.folder)


def score(cfg: DictConfig) -> None:
    """Scores one checkpoint on one benchmark, as conf/eval.yaml says."""
    with _one_message():
        _use_threads(cfg)
        _complete_recipe(cfg)
        recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
        checkpoint = load_checkpoint(cfg.checkpoint, recipe, instantiate(cfg.gates))
        sequences = instantiate(cfg.benchmark.sequences)
    folder, name = Path(cfg.paths.job), cfg.benchmark.name
    report = run_benchmark(OnlineTracker(checkpoint.tracker, cfg.device), sequences, folder / "boxes" / name)
    result = {"checkpoint": str(cfg.checkpoint), "metrics": {name: report}, "still_box": {name: still_box(sequences)}}
    result |= size_of(checkpoint)
    write_json(folder / "result.json", result)
    _print_table(result)
    log.info("results in %s", folder)


def _complete_recipe(cfg: DictConfig) -> None:
    """Puts the changes that `cfg.tracker` holds into the checkpoint's recipe, which takes its place."""
    recipe = OmegaConf.merge(recipe_of(cfg.checkpoint), cfg.tracker)
    OmegaConf.update(cfg, "tracker", recipe, merge=False)


@contextmanager
def _one_message() -> Iterator[None]:
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
        cv2.setNumThreads(cfg.threads)


def _print_table(result: dict[str, Any]) -> None:
    table = Table(title="protocol GOT-10k; macs and params counted on the built network")
    name = next(iter(result["metrics"]))
    numbers = {k: f"{v:.3f}" for k, v in result["metrics"][name].items() if isinstance(v, float)}
    columns = {"benchmark": name} | numbers | {"AO of a still box": f"{result['still_box'][name]['AO']:.3f}"}
    columns |= {"params": f"{result['params']:,}", "MACs": f"{result['macs']['total'] / 1e9:.3f} G"}
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(*columns.values())
    Console().print(table)
