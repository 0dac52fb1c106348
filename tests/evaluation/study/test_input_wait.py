"""The wait for data: what the clock counts, and what the log says of a slow and of a fast loader."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as L
import torch

from datamodules.module import TrackingDataModule
from datamodules.wait_meter import MeasuredLoader, WaitMeter
from evaluation.study.input_wait import InputWait


class Clock:
    """A clock that tests move."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Batches:
    """An epoch of batches, each of which takes `seconds`."""

    def __init__(self, clock, seconds, count):
        self.clock, self.seconds, self.count = clock, seconds, count

    def __iter__(self):
        for batch in range(self.count):
            self.clock.now += self.seconds
            yield batch


def test_waiting_and_work_are_told_apart():
    clock = Clock()
    meter = WaitMeter(clock)
    for epoch in range(2):
        seen = []
        for batch in meter.measure(Batches(clock, 3.0, 5)):
            seen.append(batch)
            clock.now += 1.0
        assert seen == list(range(5))
        clock.now += 1000.0  # between epochs
        assert meter.batches == 5 * (epoch + 1)
    assert (meter.waited, meter.worked) == (30.0, 10.0)


def test_pauses_and_a_loop_that_stops_do_not_count():
    clock = Clock()
    meter = WaitMeter(clock)
    for batch in meter.measure(Batches(clock, 1.0, 9)):
        clock.now += 2.0
        if batch == 2:
            break  # nobody asks for the next batch, as in Lightning's loop, which knows the length of an epoch
        meter.pause()
        clock.now += 500.0
        meter.resume()
    meter.pause()
    clock.now += 500.0
    meter.resume()
    assert (meter.waited, meter.worked, meter.batches) == (2.0, 4.0, 2)
    assert next(meter.measure([5])) == 5


class Training:
    """A stage of training as the callback sees it, on a fake clock."""

    def __init__(self, wait, work, workers=0, data=None):
        self.clock, self.work = Clock(), work
        self.loader = MeasuredLoader(range(4), num_workers=workers)
        self.loader.meter = WaitMeter(self.clock)
        self.logged = []
        logger = SimpleNamespace(log_metrics=lambda metrics, step: self.logged.append((step, metrics)))
        self.trainer = SimpleNamespace(
            train_dataloader=self.loader,
            is_global_zero=True,
            loggers=[logger],
            global_step=0,
            world_size=2,
            datamodule=data or SimpleNamespace(device_batch_size=8, suitable_workers=lambda: 7),
        )
        self.batches = Batches(self.clock, wait, 10**6)

    def run(self, seconds, callback):
        module, end = SimpleNamespace(stage="parent"), self.clock.now + seconds
        callback.on_train_start(self.trainer, module)
        for _ in self.loader.meter.measure(self.batches):
            self.clock.now += self.work
            self.trainer.global_step += 1
            callback.on_train_batch_end(self.trainer, module, None, None, 0)
            if self.clock.now >= end:
                return


def test_a_training_that_waits_is_told_once_what_helps(caplog, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    training = Training(wait=0.75, work=0.25)
    with caplog.at_level(logging.INFO):
        training.run(3000, InputWait())
    (message,) = caplog.messages
    assert "stage parent: the device waits for data 75% of the time" in message
    assert "trains on 16 samples/s and could train on 64" in message
    assert "datamodule.workers=7 instead of 0" in message
    assert "prepare" not in message  # it reads no data set
    assert "cpus_per_task" not in message  # Slurm does not run it
    steps = [step for step, _ in training.logged]
    assert np.diff(steps).tolist() == [600] * (len(steps) - 1)
    assert 80 <= steps[0] <= 82
    assert len(steps) == 5
    assert all(metrics == {"parent/input_wait": pytest.approx(0.75)} for _, metrics in training.logged)


def test_data_sets_can_be_prepared_and_slurm_gives_more_cores(caplog, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    data = TrackingDataModule.__new__(TrackingDataModule)
    data.device_batch_size, data.suitable_workers = 8, lambda: 1
    Training(wait=0.75, work=0.25, workers=1, data=data).run(200, InputWait())
    assert "python -m datamodules.prepare" in caplog.text
    assert "datamodule.workers" not in caplog.text
    assert "hydra.launcher.cpus_per_task" in caplog.text


def test_a_training_that_hardly_waits_is_told_nothing(caplog):
    training = Training(wait=0.02, work=0.98)
    training.run(200, InputWait())
    assert not caplog.messages
    assert training.logged[0][1] == {"parent/input_wait": pytest.approx(0.02)}


def test_short_stages_other_ranks_and_other_loaders_are_not_measured(caplog):
    short, rank, other = (Training(wait=1, work=0.1) for _ in range(3))
    short.run(60, InputWait())
    rank.trainer.is_global_zero = False
    rank.run(200, InputWait())
    other.trainer.train_dataloader = torch.utils.data.DataLoader(range(4))
    other.run(200, InputWait())
    assert not caplog.messages
    assert not short.logged + rank.logged + other.logged


class Module(L.LightningModule):
    """A module of one weight."""

    stage = "parent"

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, index):
        self.clock.now += 0.5
        return (self.weight * batch).sum()

    def validation_step(self, batch, index):
        self.clock.now += 10_000

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


class SlowNumbers(torch.utils.data.Dataset):
    """Four samples that take a second each."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 4

    def __getitem__(self, i):
        self.clock.now += 1.0
        return torch.ones(1)


def test_lightning_loops_are_measured_with_accumulation_and_validation(caplog, tmp_path):
    clock = Clock()
    loader = MeasuredLoader(SlowNumbers(clock))
    loader.meter = WaitMeter(clock)

    class Data(L.LightningDataModule):
        device_batch_size = 1

        def train_dataloader(self):
            return loader

        def val_dataloader(self):
            return torch.utils.data.DataLoader(torch.ones(2, 1))

        def suitable_workers(self):
            return 3

    trainer = L.Trainer(
        max_steps=60, accumulate_grad_batches=2, val_check_interval=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[InputWait()], default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Module(clock), Data())
    told = [m for m in caplog.messages if "waits for data" in m]
    assert len(told) == 1
    assert "stage parent: the device waits for data 67% of the time" in told[0]
    assert "datamodule.workers=3" in told[0]
