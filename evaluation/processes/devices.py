"""Which GPUs a job gets, and what of this its results depend on."""

from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from evaluation.processes.lightning import build_trainer


def assign_gpu(cfg: DictConfig) -> None:
    """Gives a job of a sweep one of the GPUs that it sees, see `gpu_overrides`; other jobs keep what they asked for."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        for key, value in gpu_overrides(cfg, hydra.job.num, torch.cuda.device_count()).items():
            OmegaConf.update(cfg, key, value)


def gpu_overrides(cfg: DictConfig, job: int, gpus: int) -> dict[str, Any]:
    """The keys that send job i of a sweep to GPU i mod k, so that jobs that run at once (hydra/launcher=joblib) spread.

    Only what is left open is filled in: `trainer.devices=1` of accelerator gpu or auto becomes [i mod k], `device=cuda`
    becomes cuda:(i mod k). So `trainer.devices=[0]` and `device=cuda:0` stay, as does everything on CPU. A launcher
    that shows each job a GPU of its own (Slurm, Ray) leaves nothing to choose.

    Args:
        cfg: a job's configuration, with or without a trainer.
        job: number of the job in the sweep.
        gpus: how many it sees.
    """
    if not gpus:
        return {}
    keys: dict[str, Any] = {}
    if cfg.device == "cuda":
        keys["device"] = f"cuda:{job % gpus}"
    trainer = cfg.get("trainer")
    if trainer and trainer.accelerator in ("gpu", "cuda", "auto") and trainer.devices == trainer.num_nodes == 1:
        keys["trainer.devices"] = [job % gpus]
    return keys


def without_gpu_numbers(settings: dict[str, Any]) -> dict[str, Any]:
    """A job's settings without the names of its GPUs: results depend on what they are and how many, not on which.

    Args:
        settings: the resolved configuration, as plain data.

    Raises:
        InstantiationException: there is no such trainer, e.g. on a machine without a GPU.
    """
    trainer = settings["trainer"] | {"devices": build_trainer(settings["trainer"]).num_devices}
    pruning = settings["pruning"] | {"device": device_type(settings["pruning"]["device"])}
    return settings | {"trainer": trainer, "pruning": pruning, "device": device_type(settings["device"])}


def device_type(device: str) -> str:
    """The kind of a device: cuda of cuda:1."""
    return device.split(":")[0]
