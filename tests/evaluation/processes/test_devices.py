"""Devices that the machine lacks: a job is refused, and its plan is made for the CPU."""

import pytest
import torch
from omegaconf import OmegaConf

from evaluation.errors import UserError
from evaluation.processes.devices import check_devices, plan_without_gpu


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def job(**changes):
    trainer = {"accelerator": "auto", "devices": "auto", "num_nodes": 2, "strategy": "ddp", "precision": "16-mixed"}
    settings = {"device": "cpu", "runner": {"devices": ["cpu"]}, "pruning": {"device": "cpu"}, "trainer": trainer}
    return OmegaConf.merge(settings, changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "cuda"}, "device=cuda, but"),
        ({"runner": {"devices": ["cuda:0", "cuda:1"]}}, "runner.devices=cuda:0,cuda:1, but"),
        ({"pruning": {"device": "cuda:0"}}, "pruning.device=cuda:0, but"),
    ],
)
def test_a_machine_without_a_gpu(changes, words):
    with pytest.raises(UserError, match=r"finds no CUDA GPU on this machine; set trainer=cpu") as error:
        check_devices(job(**changes))
    assert str(error.value).startswith(words)


def test_an_evaluation_has_no_trainer():
    with pytest.raises(UserError, match="set device=cpu"):
        check_devices(OmegaConf.create({"device": "cuda", "runner": {"devices": ["cuda"]}}))


@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"trainer": {"accelerator": "gpu"}}])
def test_a_job_for_gpus_is_planned_for_the_cpu(changes, caplog):
    plan_without_gpu(cfg := job(**changes))
    check_devices(cfg)
    cpu = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}
    assert cfg.trainer == cpu
    assert "no GPU here" in caplog.text


def test_a_job_for_the_cpu_is_planned_as_it_is():
    plan_without_gpu(cfg := job())
    assert cfg == job()
