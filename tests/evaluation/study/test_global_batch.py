"""The batch of an optimizer step holds the same samples on any number of devices, in every experiment and recipe."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import nn

from datamodules.loading import EpochSampler
from evaluation.errors import UserError
from evaluation.study.global_batch import GlobalBatch, check_smallest, share_batch
from evaluation.study.training import fit
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD
from tests.processes import join_two_ranks, quick_spawn
from trackers.checkpoints.checkpoint import build_tracker

# What 1, 2, 4 and 8 devices do in a step: accumulated batches and samples of each, or nothing where it is refused.
SHARES: dict[tuple[str, ...], list[tuple[int, int] | None]] = {
    ("experiment=compact",): [(1, 128), (1, 64), (1, 32), (1, 16)],
    ("experiment=demo",): [(1, 12), (1, 6), (1, 3), None],
    ("experiment=stability",): [(1, 12), (1, 6), (1, 3), None],
    ("experiment=tune",): [(1, 12), (1, 6), (1, 3), None],
    ("experiment=ostrack_got10k",): [(4, 32), (2, 32), (1, 32), (1, 16)],
    ("experiment=ostrack_ep300",): [(4, 32), (2, 32), (1, 32), (1, 16)],
    ("experiment=stark_stage1",): [(8, 16), (4, 16), (2, 16), (1, 16)],
    ("experiment=stark_stage2",): [(8, 16), (4, 16), (2, 16), (1, 16)],
    ("experiment=superdimp",): [(1, 20), (1, 10), (1, 5), None],
    ("experiment=superdimp", "tracker=dimp50"): [(1, 10), (1, 5), None, None],
    ("experiment=superdimp", "tracker=dimp18"): [(1, 26), (1, 13), None, None],
    ("experiment=superdimp", "tracker=prdimp50"): [(1, 10), (1, 5), None, None],
    ("experiment=superdimp", "tracker=prdimp18"): [(1, 26), (1, 13), None, None],
    ("experiment=icassp2023", "tracker=dimp"): [(1, 20), (1, 10), (1, 5), None],
    ("experiment=icassp2023", "tracker=ostrack"): [(1, 32), (1, 16), (1, 8), (1, 4)],
    ("experiment=icassp2023", "tracker=ostrack_384"): [(1, 24), (1, 12), (1, 6), (1, 3)],
    ("experiment=icassp2023", "tracker=stark_mini"): [(8, 16), (4, 16), (2, 16), (1, 16)],
}


def devices(number: int, machines: int = 1) -> Any:
    """A trainer on a number of devices of each machine."""
    return SimpleNamespace(num_devices=number, num_nodes=machines)


def data(size: int, most: int | None = None) -> dict[str, int | None]:
    return {"batch_size": size, "device_batch_size": most}


def steps(batch: GlobalBatch, samples: int, first: int) -> Iterator[set[int]]:
    """Yields the numbers of the samples in each step of an epoch, which its devices take from their samplers."""
    ranks = [list(EpochSampler(samples, lambda: first, rank, batch.devices)) for rank in range(batch.devices)]
    taken = batch.accumulated * batch.per_device
    for start in range(0, len(ranks[0]), taken):
        yield {number for rank in ranks for number in rank[start : start + taken]}


@pytest.mark.parametrize("overrides", SHARES, ids=" ".join)
def test_the_samples_of_a_step_are_the_same_on_any_number_of_devices(overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", list(overrides)).datamodule
    epoch = min(cfg.samples_per_epoch // cfg.batch_size, 20) * cfg.batch_size
    for number, share in zip((1, 2, 4, 8), SHARES[overrides], strict=True):
        if share is None:
            with pytest.raises(UserError):
                share_batch(cfg, devices(number))
            continue
        batch = share_batch(cfg, devices(number))
        assert batch == GlobalBatch(number, *share)
        assert share_batch(cfg, devices(number // 2, 2) if number > 1 else devices(1)) == batch
        for k, taken in enumerate(steps(batch, epoch, first=epoch)):
            assert taken == set(range(epoch + k * cfg.batch_size, epoch + (k + 1) * cfg.batch_size))


def test_every_experiment_and_recipe_is_in_the_table():
    experiments = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    recipes = {(f"experiment={p.parent.name}", f"tracker={p.stem}") for p in (CONF / "recipe").glob("*/*.yaml")}
    assert {overrides[0] for overrides in SHARES} == {f"experiment={name}" for name in experiments}
    assert {overrides for overrides in SHARES if len(overrides) > 1} == recipes


@pytest.mark.parametrize(
    ("size", "number", "machines", "works"),
    [
        (20, 8, 1, {"trainer.devices": 5, "datamodule.batch_size": 24}),
        (12, 8, 1, {"trainer.devices": 6, "datamodule.batch_size": 16}),
        (130, 8, 1, {"trainer.devices": 5, "datamodule.batch_size": 128}),
        (2, 8, 1, {"trainer.devices": 2, "datamodule.batch_size": 8}),
        (20, 4, 2, {"trainer.devices": 2, "datamodule.batch_size": 24}),
        (20, 1, 3, {"datamodule.batch_size": 21}),
    ],
)
def test_a_batch_that_devices_cannot_share_is_refused_with_settings_that_work(size, number, machines, works):
    with pytest.raises(UserError, match=f"datamodule.batch_size={size}, .* by {number * machines} devices") as refused:
        share_batch(data(size, 16), devices(number, machines))
    found = {key: int(value) for key, value in re.findall(r"(\S+)=(\d+) \(", str(refused.value))}
    assert found == works
    if "trainer.devices" in found:
        share_batch(data(size, 16), devices(found["trainer.devices"], machines))
    share_batch(data(found["datamodule.batch_size"], 16), devices(number, machines))


def test_as_few_batches_are_accumulated_as_the_limit_allows():
    def shared(size: int, most: int | None, number: int = 1) -> tuple[int, int]:
        batch = share_batch(data(size, most), devices(number))
        return batch.accumulated, batch.per_device

    assert shared(100, None) == (1, 100)
    assert shared(100, 99) == (2, 50)
    assert shared(100, 40) == (4, 25)
    assert shared(62, 30, number=2) == (31, 1)
    assert str(GlobalBatch(8, 1, 16)) == "batch of 128: 8 devices x 16 samples"
    assert str(GlobalBatch(1, 4, 32)) == "batch of 128: 1 device x 4 accumulated batches x 32 samples"


def test_a_job_is_refused_before_anything_is_trained(run, tmp_path):
    with pytest.raises(SystemExit, match=r"datamodule\.batch_size=3, .* set trainer\.devices=1 \(3 samples each\), or"):
        run("train", "trainer=ddp_spawn", "device=cpu", "trainer.devices=2", "datamodule.batch_size=3")
    assert not list((tmp_path / "outputs").rglob("checkpoint.safetensors"))


def test_a_device_takes_enough_samples_for_batch_norms(run):
    with pytest.raises(SystemExit, match=r"2 accumulated batches x 1 sample; .* Set datamodule\.device_batch_size=2$"):
        run("train", "tracker=dimp", "datamodule.device_batch_size=1", "dry_run=true")
    check_smallest(GlobalBatch(2, 1, 2), 2)
    for batch, works in (
        (GlobalBatch(2, 1, 1), "batch_size=4 .* fewer devices"),
        (GlobalBatch(1, 1, 1), "batch_size=2 "),
    ):
        with pytest.raises(UserError, match=f"Set datamodule.{works}"):
            check_smallest(batch, 2)
    with pytest.raises(UserError, match=r"device_batch_size=5$"):
        check_smallest(GlobalBatch(3, 25, 1), 2)


# Trainings


class Samples(L.Callback):
    """Counts the samples of each optimizer step in this process."""

    def __init__(self) -> None:
        self.taken, self.steps = 0, []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int) -> None:
        self.taken += len(batch["search"])

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.steps.append(self.taken)
        self.taken = 0


class Poison(L.Callback):
    """Makes a weight NaN before the fourth batch."""

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int) -> None:
        if index == 3:
            next(module.parameters()).data.fill_(torch.nan)


def train(
    cache: Path, folder: Path, *overrides: str, callback: L.Callback | None = None
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Trains a tiny OSTrack without batch norm by SGD; AdamW makes whole steps of the rounding of gradients near zero.

    Returns:
        The weights, and the samples of each step in this process.
    """
    given = [
        *SMALL_WORLD,
        *SMALL_NETWORK,
        *SHORT_STAGES,
        f"paths.cache={cache}",
        "paths.job=.",
        "tracker.loss.cells=best",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg: DictConfig = compose("train", [*given, *overrides])
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    for module in list(tracker.network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    tracker.configure_optimizers = lambda: torch.optim.SGD(tracker.network.parameters(), lr=0.1)
    samples = Samples()
    fit(cfg, tracker, "parent", folder, False, callback or samples)
    return tracker.network.state_dict(), samples.steps


def difference(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_every_step_sees_the_whole_batch_also_at_the_end_of_an_epoch(cache, tmp_path, caplog):
    shared = ["datamodule.batch_size=4", "datamodule.samples_per_epoch=10", "stages.parent.steps=5"]
    with caplog.at_level(logging.INFO):
        weights, counts = train(cache, tmp_path / "two", *shared, "datamodule.device_batch_size=2")
    assert counts == [4] * 5
    assert "stage parent: batch of 4: 1 device x 2 accumulated batches x 2 samples" in caplog.messages
    others, counts = train(cache, tmp_path / "one", *shared)
    assert counts == [4] * 5
    assert difference(weights, others) < 1e-6


def test_a_failed_step_names_its_samples(cache, tmp_path):
    shared = ["datamodule.batch_size=4", "datamodule.samples_per_epoch=8", "datamodule.device_batch_size=2"]
    with pytest.raises(UserError, match=r"step 1 \(batches 2 to 3, samples 4 to 7\)"):
        train(cache, tmp_path, *shared, callback=Poison())


TWO_STEPS = ["datamodule.batch_size=4", "stages.parent.steps=2", "datamodule.device_batch_size=2"]


def work(rank: int, cache: Path, folder: Path) -> None:
    """Trains in one of two processes."""
    join_two_ranks(rank, folder)
    weights, counts = train(cache, folder, *TWO_STEPS, "trainer.strategy=ddp", "trainer.devices=2")
    torch.save({"weights": weights, "counts": counts}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.attack  # processes of their own
def test_two_devices_train_as_one_that_accumulates(cache, tmp_path):
    with quick_spawn():
        torch.multiprocessing.start_processes(work, (cache, tmp_path), nprocs=2, start_method="spawn")
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    weights, counts = train(cache, tmp_path / "alone", *TWO_STEPS)
    before, _ = train(cache, tmp_path / "shorter", *TWO_STEPS, "stages.parent.steps=1")
    assert counts == [4, 4]
    for rank in ranks:
        assert rank["counts"] == [2, 2]
        assert difference(weights, rank["weights"]) < 1e-6 < difference(weights, before)
