"""The number of loader processes follows cores, containers, processes, jobs and shared memory."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from datamodules import workers
from datamodules.workers import choose_workers, usable_cores
from evaluation.commands import setup
from evaluation.processes.invocation import Invocation
from tests.conftest import CONF


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(16)` makes a machine of 16 cores without a limit, and with much shared memory."""

    def make(cores, limit=None, shared=1 << 40):
        monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(workers, "CGROUP_LIMIT", tmp_path / "cpu.max")
        if limit is not None:
            (tmp_path / "cpu.max").write_text(limit)
        monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
        monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: SimpleNamespace(free=shared))
        for name in ("SLURM_NTASKS", "SLURM_CPUS_PER_TASK"):
            monkeypatch.delenv(name, raising=False)

    return make


def trainer(devices, nodes=1):
    return SimpleNamespace(num_devices=devices, world_size=devices * nodes)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [(None, 16), ("max 100000\n", 16), ("400000 100000\n", 4), ("50000 100000\n", 1), ("9900000 100000\n", 16)],
)
def test_cores_are_those_of_the_process_and_of_its_container(machine, limit, cores):
    machine(16, limit)
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("cores", "processes", "jobs", "chosen"),
    [
        (2, 1, 1, 1),
        (1, 1, 1, 1),
        (2, 1, 2, 1),
        (16, 1, 1, 15),
        (16, 4, 1, 3),
        (16, 1, 2, 7),
        (64, 8, 2, 3),
        (8, 8, 1, 1),
    ],
)
def test_processes_and_jobs_share_the_cores(machine, cores, processes, jobs, chosen):
    machine(cores)
    assert choose_workers(trainer(processes), jobs) == chosen
    if processes == 1:
        assert choose_workers(None, jobs) == chosen


def test_more_loader_processes_than_a_training_needs_are_not_started(machine):
    machine(256)
    assert choose_workers(None, 1) == workers.MOST


def test_processes_that_slurm_has_bound_do_not_share_their_cores(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert choose_workers(trainer(4), 1) == 7
    machine(32)  # Slurm says eight for each task, but does not bind them
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert choose_workers(trainer(4), 1) == 7
    machine(8)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # one task, whose job starts four processes
    assert choose_workers(trainer(4), 1) == 1


def test_batches_fit_into_the_shared_memory_of_a_small_container(machine, caplog):
    machine(16, shared=64 << 20)
    assert choose_workers(None, 1, batch_bytes=4 << 20) == 2
    assert "--shm-size" in caplog.text
    caplog.clear()
    assert choose_workers(None, 2, batch_bytes=100 << 20) == 1
    machine(4)
    assert choose_workers(None, 1, batch_bytes=4 << 20) == 3
    assert caplog.text.count("--shm-size") == 1


@pytest.mark.parametrize(
    ("launcher", "given", "jobs", "together"), [("basic", 3, 1, 3), ("two_at_a_time", 1, 2, 2), ("joblib", 4, 6, 6)]
)
def test_jobs_that_a_launcher_runs_at_once_share_the_machine(machine, launcher, given, jobs, together):
    machine(6)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        names = ["job.tracker=x", "job.method=x", "paths.job=.", "logger=none", f"datamodule.jobs_at_once={given}"]
        overrides = [*names, f"hydra/launcher={launcher}"]
        found = setup._jobs_at_once(compose("train", overrides, return_hydra_config=True).hydra.launcher)
        cfg = compose("train", overrides)
    assert found == jobs
    invocation = Invocation("train", (), True, 0, Path(), found, {}, False, "")
    assert setup.resolve(cfg, invocation, False)[0].datamodule.jobs_at_once == together
