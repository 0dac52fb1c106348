"""Jobs on other processes and machines: launchers, several processes for one training, and a sweeper that searches."""

import csv
import importlib.util

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from datamodules.dataset import EpochSampler
from evaluation.processes.devices import gpu_overrides, resolve_devices
from evaluation.processes.lightning import build_trainer
from evaluation.study.cache_keys import NOT_IN_RESULT
from tests.conftest import CONF, results

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


@pytest.mark.slow
def test_two_processes_make_one_job(run, fresh_cache, monkeypatch, spawned_quickly):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    cache = f"paths.cache={fresh_cache}"
    outputs = run("train", "trainer=ddp_spawn", "trainer.devices=2", "device=cpu", "ratio=0.5", "logger=csv", cache)
    (result,) = results(outputs)
    assert result["ratio_achieved"] <= 0.5
    assert result["masked_vs_compacted"] < 1e-5
    (metrics,) = outputs.rglob("metrics.csv")
    rows = list(csv.DictReader(metrics.open()))
    # An epoch of 4 samples is 2 steps of a batch of 2, one sample for each, so 4 steps are 2 epochs, as in one process.
    assert max(int(row["epoch"]) for row in rows if row["parent/unreadable_frames"]) == 1
    stages = {p.name for p in (fresh_cache / "stages").iterdir() if not p.name.endswith(".lock")}
    assert sorted(name.split("-")[0] for name in stages) == ["child", "evaluation", "evaluation", "parent", "sparsity"]
    assert not any(name.endswith(".unfinished") for name in stages)
    assert not list((fresh_cache / "stages").rglob("scratch"))


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


def launchers() -> list:
    missing = importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None
    reason = "the extra `ray` is not installed (pip install 'light-weight-trackers[ray]' in an environment of its own)"
    return ["submitit_local", pytest.param("ray", marks=pytest.mark.skipif(missing, reason=reason))]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", launchers())
def test_a_job_in_a_process_of_its_own_shares_the_parent(run, fresh_cache, monkeypatch, launcher):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cache = f"paths.cache={fresh_cache}"
    (alone,) = results(run("train", "ratio=1", cache, *ONE_SHOT))
    outputs = run("train", "-m", f"hydra/launcher={launcher}", "ratio=0.5", cache, NO_REPORT, *ONE_SHOT)
    (child,) = results(outputs / "studies")
    assert child["status"] == "finished"
    assert child["seconds"]["parent"] == "cached"
    assert child["parent"]["metrics"] == alone["metrics"]


@pytest.mark.slow
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
