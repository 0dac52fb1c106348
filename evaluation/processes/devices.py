"""Assigns a GPU to each job of a sweep, and says which devices the results of a job depend on."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from evaluation.errors import UserError

log = logging.getLogger(__name__)

USERS_OF_DEVICES = ("device", "runner.devices", "pruning.device")  # keys of torch devices


def check_devices(cfg: DictConfig) -> None:
    """Checks that the machine has the devices that trackers are scored and timed on.

    Raises:
        UserError: the machine lacks a device.
    """
    if torch.cuda.is_available():
        return
    for key in USERS_OF_DEVICES:
        value = OmegaConf.select(cfg, key)
        devices = [value] if isinstance(value, str) else value or []
        if any(device_type(device) == "cuda" for device in devices):
            cpu = "trainer=cpu for all work on the CPU" if "trainer" in cfg else f"{key}=cpu"
            raise UserError(f"{key}={','.join(devices)}, but torch finds no CUDA GPU on this machine; set {cpu}")


def plan_without_gpu(cfg: DictConfig) -> None:
    """Makes a job of a machine with GPUs one of this machine's CPU if this machine has none, so that it can be planned.

    Args:
        cfg: the job's configuration, changed in place.
    """
    if torch.cuda.is_available() or not _names_gpu(cfg):
        return
    log.warning("no GPU here, so this is the plan of trainer=cpu; on a GPU, stages have other keys and may be cached")
    OmegaConf.update(cfg, "runner.devices", ["cpu"])
    for key in ("device", "pruning.device"):
        OmegaConf.update(cfg, key, "cpu")
    on_cpu = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}
    for key, value in on_cpu.items():
        OmegaConf.update(cfg, f"trainer.{key}", value)


def _names_gpu(cfg: DictConfig) -> bool:
    scored = {device_type(device) for device in (cfg.device, cfg.pruning.device, *cfg.runner.devices)}
    return "cuda" in scored or cfg.trainer.accelerator in ("gpu", "cuda")


def assign_gpu(cfg: DictConfig, job: int) -> None:
    """Gives a job of a sweep one of the GPUs that it sees; see `gpu_overrides`.

    Args:
        cfg: the job's configuration, changed in place.
        job: number of the job in the sweep.
    """
    for key, value in gpu_overrides(cfg, job, torch.cuda.device_count()).items():
        OmegaConf.update(cfg, key, value)


def gpu_overrides(cfg: DictConfig, job: int, gpus: int) -> dict[str, Any]:
    """Returns the overrides that send job i of a sweep to GPU i mod k of k GPUs. Simultaneous jobs then use all GPUs.

    Only settings that leave the choice open are changed: `trainer.devices=1` with accelerator gpu or auto becomes
    [i mod k], and `device=cuda` becomes cuda:(i mod k). `trainer.devices=[0]`, `device=cuda:0` and settings for the CPU
    stay. A launcher that shows each job one GPU (Slurm, Ray) leaves no choice open.

    Args:
        cfg: a job's configuration, with or without a trainer.
        job: number of the job in the sweep.
        gpus: number of GPUs that the job sees.
    """
    if not gpus:
        return {}
    overrides: dict[str, Any] = {}
    if cfg.device == "cuda":
        overrides["device"] = f"cuda:{job % gpus}"
    trainer = cfg.get("trainer")
    if trainer and trainer.accelerator in ("gpu", "cuda", "auto") and trainer.devices == trainer.num_nodes == 1:
        overrides["trainer.devices"] = [job % gpus]
    return overrides


def resolve_devices(settings: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Returns a job's settings with the devices that compute its results, in the place of "auto" and numbers of GPUs.

    Results do not depend on which GPU computes them. They do depend on whether a GPU does, and with which arithmetic.

    Args:
        settings: the resolved configuration, as plain data.
        trainer: built from its section `trainer`.
    """
    accelerator = arithmetic([trainer.strategy.root_device.type])
    chosen = settings["trainer"] | {"devices": trainer.num_devices, "accelerator": accelerator}
    pruning = settings["pruning"] | {"device": device_type(settings["pruning"]["device"])}
    return settings | {"trainer": chosen, "pruning": pruning, "device": device_type(settings["device"])}


def arithmetic(devices: Iterable[str]) -> dict[str, Any]:
    """Returns all settings that change the rounding of results, as plain data for a cache key.

    Args:
        devices: torch devices that compute; only their types count.
    """
    types = sorted({device_type(device) for device in devices})
    found: dict[str, Any] = {"devices": types, "float32_matmul": torch.get_float32_matmul_precision()}
    if "cuda" in types:
        found["cudnn_tf32"] = torch.backends.cudnn.allow_tf32
    return found


def device_type(device: str) -> str:
    """Returns the type of a device: cuda for cuda:1."""
    return str(device).split(":")[0]
