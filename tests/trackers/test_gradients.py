"""Every trained parameter gets a gradient in every step, which several processes that train together rely on."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evaluation.study.training import fit
from pruning.surgery import compact
from tests.conftest import CONF, SHORT_STAGES, SMALL_WORLD
from tests.processes import join_two_ranks, quick_spawn
from tests.pruning.networks import random_plan
from tests.trackers.test_distillation import CHANGES, batch, pruned, small
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker
from trackers.distillation import Teacher

# A DiMP with a ResNet-18 is tested in `dimp/test_tracker.py`, and with a ResNet-50 it has the same parts.
PUBLISHED = sorted(p.stem for p in (CONF / "tracker").glob("*.yaml") if not p.stem.endswith(("dimp18", "dimp50")))
SMALLER = {  # with the layers of the published network
    "ostrack": ["+tracker.vit.embed_dim=24", "+tracker.vit.num_heads=2", "tracker.head_channels=[8,4]"],
    "stark": [
        *("tracker.transformer.width=24", "tracker.transformer.heads=2", "tracker.transformer.hidden=32"),
        *("tracker.head_channels=[8,4]", "tracker.search.size=128", "tracker.template.size=64"),
    ],
    "dimp": ["tracker.template.size=96", "tracker.template.factor=3", "tracker.proposals.count=4"],
}
TINY = ["ostrack", "stark box", "stark class", "dimp", "prdimp"]


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["paths.job=.", "job.method=any", *overrides])


def with_class_head(objective: str, *overrides: str) -> Tracker:
    given = [f"tracker.{change}" for change in CHANGES["stark"]]
    cfg = composed("tracker=stark", "tracker.class_head=true", f"tracker.objective={objective}", *given, *overrides)
    return build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))


def tiny(name: str) -> Tracker:
    family, _, objective = name.partition(" ")
    return with_class_head(objective) if objective else small(family)


def silent(tracker: Tracker) -> set[str]:
    """Returns the trained parameters that a step gives no gradient."""
    tracker.setup("fit")
    tracker.train()
    given = batch(tracker, size=3)
    losses = tracker.losses(given) if tracker.teacher is None else tracker.teacher.losses(tracker, given)
    losses["total"].backward()
    return {name for name, p in tracker.network.named_parameters() if p.requires_grad and p.grad is None}


CASES = [(name, weights) for name in TINY for weights in (None, (1.0, 1.0))] + [("stark box", (0.0, 1.0))]


@pytest.mark.parametrize(("name", "weights"), CASES)
def test_children_with_and_without_a_teacher(name, weights):
    parent = tiny(name)
    child = pruned(parent, seed=1)
    child.teacher = None if weights is None else Teacher(parent, *weights)
    assert silent(child) == set()


@pytest.mark.attack
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name):
    family = next(family for family in SMALLER if family in name)
    for objective in ("box", "class") if name.startswith("stark_") else (None,):
        changes = [*SMALLER[family], *([f"tracker.objective={objective}"] if objective else [])]
        torch.manual_seed(0)
        cfg = composed(f"tracker={name}", "scale=full", *changes)
        assert silent(build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))) == set()


# Two processes, in which a parameter without a gradient is an error

SHARED = {
    "ostrack": (["tracker=ostrack", "pruning=slim"], None),
    "stark box": (["tracker=stark", "tracker.class_head=true", "pruning=chipnet"], None),
    "stark class": (["tracker=stark", "tracker.class_head=true", "tracker.objective=class", "pruning=slim"], None),
    "stark distilled": (["tracker=stark", "tracker.class_head=true", "pruning=slim"], (1.0, 0.0)),
    "dimp": (["tracker=dimp", "pruning=network_slimming"], None),
    "prdimp": (["tracker=dimp", "tracker.losses.classifier=kl", "pruning=icassp2023/dimp"], (0.0, 1.0)),
    "child": (["tracker=stark", "pruning=magnitude", "ratio=1"], None),
}


def train(name: str, cache: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Returns the weights after a sparsity stage of two steps, or of a child's training at ratio 1."""
    overrides, weights = SHARED[name]
    given = [f"tracker.{change}" for change in CHANGES.get(overrides[0].removeprefix("tracker="), ())]
    cfg = composed(
        *SMALL_WORLD, *SHORT_STAGES, "ratio=0.5", f"paths.cache={cache}", *given, *overrides,
        "stages.sparsity.steps=2", "datamodule.batch_size=4", "trainer.strategy=ddp", "trainer.devices=2",
    )  # fmt: skip
    torch.manual_seed(0)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    if weights is not None:
        tracker.teacher = Teacher(build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)), *weights)
    if name == "child":
        compact(tracker.network, tracker.groups(), random_plan(tracker.groups(), 1))  # some layers have no units left
    fit(cfg, tracker, "sparsity", folder / name, False, instantiate(cfg.pruning, ratio=cfg.ratio))
    return tracker.network.state_dict()


def work(rank: int, cache: Path, folder: Path) -> None:
    """Trains all cases in one of two processes."""
    join_two_ranks(rank, folder)
    torch.save({name: train(name, cache, folder / str(rank)) for name in SHARED}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.attack  # processes of their own
def test_two_processes_train_every_tracker(cache, tmp_path):
    with quick_spawn():
        torch.multiprocessing.start_processes(work, (cache, tmp_path), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    statistics = ("running_mean", "running_var")  # of a batch norm: each process keeps those of its own samples
    for name, weights in first.items():
        assert all(torch.equal(second[name][n], w) for n, w in weights.items() if not n.endswith(statistics)), name
