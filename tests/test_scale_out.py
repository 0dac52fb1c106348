"""Jobs on other processes and machines: launchers, several processes for one training, and a sweeper that searches."""

import os
import pickle
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from datamodules.loading import EpochSampler
from evaluation.commands import run_job
from evaluation.processes.devices import gpu_overrides, resolve_devices
from evaluation.processes.invocation import Invocation
from evaluation.processes.lightning import build_trainer
from evaluation.study.cache_keys import NOT_IN_RESULT
from tests.conftest import CONF, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD, results
from tests.offline_runs import OfflineRun, log_out

ONE_SHOT = [
    *("pruning=magnitude", "stages.parent.steps=1", "stages.sparsity.steps=0", "stages.child.steps=0"),
    "trainer.accelerator=cpu",
]
NO_REPORT = "~hydra.callbacks.report"
NAMES = {"train": ("job.tracker=ostrack", "job.method=slim"), "eval": ()}


def composed(*overrides: str, script: str = "train") -> DictConfig:
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        return compose(script, ["paths.job=.", *NAMES[script], *overrides])


GPU = ("trainer.accelerator=gpu", "device=cuda")


@pytest.mark.parametrize(
    ("overrides", "job", "gpus", "keys"),
    [
        (GPU, 0, 2, {"trainer.devices": [0], "device": "cuda:0"}),
        (GPU, 5, 3, {"trainer.devices": [2], "device": "cuda:2"}),
        (("trainer.accelerator=auto",), 1, 2, {"trainer.devices": [1]}),
        (("trainer.accelerator=cpu", "device=cuda"), 1, 2, {"device": "cuda:1"}),
        ((*GPU, "trainer.devices=[0]", "device=cuda:0"), 1, 2, {}),
        ((*GPU, "trainer=ddp_spawn", "trainer.devices=2"), 1, 2, {"device": "cuda:1"}),
        (("trainer.accelerator=cpu",), 1, 2, {}),
        (GPU, 1, 0, {}),
    ],
)
def test_gpus_are_dealt_in_turn_where_the_choice_is_open(overrides, job, gpus, keys):
    assert gpu_overrides(composed(*overrides), job, gpus) == keys


def test_scoring_gets_a_gpu_in_turn_too():
    assert gpu_overrides(composed("checkpoint=a", "device=cuda", script="eval"), 3, 2) == {"device": "cuda:1"}


def test_results_do_not_depend_on_which_gpu_a_job_got(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def settings(*places: str) -> dict:
        cfg = composed("trainer.accelerator=gpu", "logger=none", *places)
        settings = OmegaConf.to_container(cfg, resolve=True)
        found = resolve_devices(settings, build_trainer(cfg.trainer))
        return {key: value for key, value in found.items() if key not in NOT_IN_RESULT}

    assert settings("trainer.devices=[1]", "device=cuda:1") == settings("trainer.devices=1", "device=cuda")
    assert settings("trainer=ddp")["trainer"]["devices"] == 2


def test_processes_take_samples_in_turn_and_an_epoch_has_as_many_for_each():
    shares = [list(EpochSampler(9, lambda: 40, rank, 2)) for rank in (0, 1)]
    assert shares == [[40, 42, 44, 46], [41, 43, 45, 47]]


def test_ddp_within_a_sweep_is_refused_with_a_command_that_works(run, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run("train", "-m", "trainer=ddp", "device=cpu", "trainer.devices=2", "ratio=0.5")
    assert stop.value.code
    (failed,) = results(tmp_path / "outputs")
    assert "python train.py -m" in failed["error"]
    assert "trainer.devices=2 ratio=0.5 trainer=ddp_spawn" in failed["error"]
    assert "hydra/launcher=submitit_slurm hydra.launcher.nodes=1 hydra.launcher.tasks_per_node=2" in failed["error"]


@pytest.mark.attack
def test_two_processes_make_one_job(run, fresh_cache, monkeypatch, spawned_quickly):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    log_out(monkeypatch)
    cache = f"paths.cache={fresh_cache}"
    outputs = run("train", "trainer=ddp_spawn", "trainer.devices=2", "device=cpu", "ratio=0.5", "logger=wandb", cache)
    (result,) = results(outputs)
    assert result["ratio_achieved"] <= 0.5
    assert result["masked_vs_compacted"] < 1e-5
    (folder,) = (outputs / "train").iterdir()
    logged = OfflineRun(folder)
    assert logged.exit_code == 0
    assert logged.summary["params"] == result["params"]
    # An epoch of 4 samples is two batches of 2, of which each process takes one sample.
    assert max(row["parent/epoch"] for row in logged.history if "parent/epoch" in row) == 1
    stages = {p.name for p in (fresh_cache / "stages").iterdir() if not p.name.endswith(".lock")}
    assert sorted(name.split("-")[0] for name in stages) == ["child", "evaluation", "evaluation", "parent", "sparsity"]
    assert not any(name.endswith(".unfinished") for name in stages)
    assert not list((fresh_cache / "stages").rglob("scratch"))


def free_port() -> int:
    """Returns a port below those that the system gives to others of its own accord, so it is free until it is used."""
    ports = list(range(10_000, 30_000))
    random.Random(os.getpid()).shuffle(ports)
    for port in ports:
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


@pytest.mark.attack
def test_two_nodes_make_one_job(fresh_cache, tmp_path, monkeypatch):
    """Two groups of torchrun stand for two machines."""
    (tmp_path / "tmp").mkdir()
    for name, value in {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")}.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    meeting = ["--master_addr=127.0.0.1", f"--master_port={port}"]
    job = [
        "train.py",
        *SMALL_WORLD,
        *SHORT_STAGES,
        "trainer=ddp",
        "trainer.num_nodes=2",
        "trainer.devices=1",
        "device=cpu",
    ]
    job += ["tracker=stark", "tracker.class_head=true", "logger=tensorboard", "ratio=0.5"]
    job += [f"paths.cache={fresh_cache}", f"paths.outputs={tmp_path}/outputs"]
    nodes = [
        subprocess.Popen([*torchrun, f"--node_rank={node}", *meeting, *job], cwd=CONF.parent, stderr=subprocess.PIPE)
        for node in (0, 1)
    ]
    told = [node.communicate()[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    (result,) = results(folder)
    assert result["status"] == "finished"
    assert list(folder.rglob("events.out.tfevents.*"))
    assert not list((tmp_path / "tmp").glob("rank*"))


SPREAD = {
    "ddp": ("trainer=ddp", "tracker=dimp", "datamodule.batch_size=4", "logger=csv"),
    "joblib": (
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "trainer=ddp_spawn",
        NO_REPORT,
        *SMALL_NETWORK,
    ),
}


@pytest.mark.attack
@pytest.mark.parametrize("how", SPREAD)
def test_a_command_starts_the_processes_of_its_job(fresh_cache, tmp_path, monkeypatch, how):
    for name, value in {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    flags = [word for word in SPREAD[how] if word.startswith("-")]
    job = [*SMALL_WORLD, *SHORT_STAGES, *(word for word in SPREAD[how] if word not in flags), "ratio=0.5"]
    job += ["trainer.devices=2", "device=cpu", f"paths.cache={fresh_cache}", f"paths.outputs={tmp_path}/outputs"]
    done = subprocess.run([sys.executable, "train.py", *flags, *job], cwd=CONF.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path / "outputs")
    assert result["status"] == "finished"
    assert result["ratio_achieved"] <= 0.5
    assert done.stdout.count("stage parent: batch of") == 1
    assert done.stdout.split("stage parent: batch of ")[1].split()[1:3] == ["2", "devices"]


@pytest.mark.attack
@pytest.mark.parametrize("logger", sorted(path.stem for path in (CONF / "logger").glob("*.yaml")))
def test_a_job_that_is_handed_to_processes_needs_nothing_of_hydra(run, monkeypatch, logger):
    log_out(monkeypatch)
    jobs = []

    def launch(trainer: Any, settings: DictConfig, invocation: Invocation, work: Callable[[], Any]) -> None:
        state = Singleton.get_state()
        Singleton.set_state({"instances": {}, "omegaconf_resolvers": {}})
        try:
            job = pickle.loads(pickle.dumps(work)).args[0]
            jobs.append(job.cfg)
            if job.maker.logger and logger == "wandb":
                job.maker.logger.experiment.finish()
        finally:
            Singleton.set_state(state)

    monkeypatch.setattr(run_job, "launch", launch)
    run("train", "ratio=0.5", f"logger={logger}")
    assert "${" not in OmegaConf.to_yaml(jobs[0])


def test_slurm_gets_what_was_asked_for(run, tmp_path, monkeypatch):
    from submitit.slurm.slurm import SlurmJob

    tools = tmp_path / "tools"
    tools.mkdir()
    for name, says in (("sbatch", "Submitted batch job 7"), ("srun", ""), ("sacct", "")):
        (tools / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = None
    monkeypatch.setattr(SlurmJob, "results", lambda job: [done])
    asked = ("partition=a100", "gpus_per_node=2", "tasks_per_node=2", "nodes=4", "timeout_min=90")
    given = [f"hydra.launcher.{key}" for key in (*asked, "array_parallelism=1")]
    outputs = run("train", "-m", "hydra/launcher=submitit_slurm", "trainer=ddp", "ratio=1,0.5", *given)
    (script,) = outputs.rglob("*_submission.sh")
    lines = script.read_text().splitlines()
    for line in ("partition=a100", "gpus-per-node=2", "ntasks-per-node=2", "nodes=4", "time=90", "array=0-1%1"):
        assert f"#SBATCH --{line}" in lines
    assert "#SBATCH --signal=USR2@120" in lines  # on which the job asks to be run again
    assert len(list(outputs.rglob("*_submitted.pkl"))) == 2


def shares_the_parent(run, cache, *launcher: str) -> None:
    """Runs a job of ratio 1 here and one of ratio 0.5 by a launcher, which must find the parent of the first."""
    cache = f"paths.cache={cache}"
    (alone,) = results(run("train", "ratio=1", cache, *ONE_SHOT))
    outputs = run("train", "-m", "ratio=0.5", cache, NO_REPORT, *ONE_SHOT, *launcher)
    (child,) = results(outputs / "studies")
    assert child["status"] == "finished"
    assert child["seconds"]["parent"] == "cached"
    assert child["parent"]["metrics"] == alone["metrics"]


@pytest.mark.attack
def test_a_job_in_a_process_of_its_own_shares_the_parent(run, fresh_cache, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shares_the_parent(run, fresh_cache, "hydra/launcher=submitit_local")


@pytest.mark.attack
def test_a_job_on_ray_shares_the_parent(run, fresh_cache, monkeypatch):
    ray = pytest.importorskip("ray", reason="without the extra `ray`")
    for name, value in {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    given = ("num_cpus=1", "include_dashboard=false")
    with TemporaryDirectory(dir="/tmp") as folder:  # names of sockets are short
        given = [f"+hydra.launcher.ray.init.{option}" for option in (*given, f"_temp_dir={folder}")]
        try:
            shares_the_parent(run, fresh_cache, "hydra/launcher=ray", *given)
        finally:
            ray.shutdown()


@pytest.mark.attack
def test_optuna_proposes_what_the_objective_likes(run):
    short = ("stages.parent.steps=1", "stages.sparsity.steps=2", "stages.child.steps=0", NO_REPORT)
    (study,) = (run("train", "-m", "experiment=tune", "hydra.sweeper.n_trials=2", *short) / "studies").iterdir()
    scores = [r["metrics"]["synthetic"]["AO"] for r in results(study)]
    configs = [OmegaConf.load(path) for path in sorted(study.glob("*/config.yaml"))]
    travels = [cfg.pruning.criterion.travel for cfg in configs]
    assert [cfg.ratio for cfg in configs] == [0.25, 0.25]
    assert len(set(travels)) == 2
    found = OmegaConf.load(study / "optimization_results.yaml")
    assert found.best_value == max(scores)
    assert found.best_params["pruning.criterion.travel"] == travels[scores.index(max(scores))]


def test_an_objective_that_nothing_measures_is_refused(run):
    with pytest.raises(SystemExit, match=r"objective=AUC is no metric of benchmark=synthetic: AO, SR0\.5, SR0\.75"):
        run("train", "objective=AUC")
