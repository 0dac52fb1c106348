"""Loggers of a job. All stages of a job log into one, and the result is its summary."""

import os
from pathlib import Path
from typing import Any

import wandb as wb
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from evaluation.results import numbers_of


def wandb(folder: str, project: str, entity: str | None, group: str, settings: dict[str, Any]) -> WandbLogger:
    """A Weights & Biases run: online for whoever is logged in, else offline, without a question and without failing.

    WANDB_MODE (online, offline, disabled) decides if it is set.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if wb.login(prompt=False) else "offline")
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = Path(folder).name
    run = wb.init(
        project=project, entity=entity, group=Path(group).name, name=name, dir=folder, mode=mode, config=settings
    )
    return WandbLogger(experiment=run)


def csv(folder: str, settings: dict[str, Any]) -> CSVLogger:
    """`metrics.csv` in the job's folder."""
    return _with_config(CSVLogger(folder, name="logs", version=""), settings)


def tensorboard(folder: str, settings: dict[str, Any]) -> TensorBoardLogger:
    """Event files in the job's folder: `tensorboard --logdir outputs`."""
    return _with_config(TensorBoardLogger(folder, name="logs", version=""), settings)


def none(settings: dict[str, Any]) -> bool:
    """No logger."""
    return False


def finish_logger(logger: Any, result: dict[str, Any]) -> None:
    """Puts the job's result where the logger's readers look for it."""
    if isinstance(logger, WandbLogger):
        run = logger.experiment
        run.summary.update({k: v for k, v in result.items() if k not in ("units", "job")})
        rows = [
            [name, unit["kind"], unit["kept"], unit["kept"] / unit["size"]] for name, unit in result["units"].items()
        ]
        table = wb.Table(["layer", "kind", "kept", "share"], rows)
        run.log({"kept units": wb.plot.bar(table, "layer", "share", title="Kept share of units by layer")})
        run.finish()
    elif logger:
        name = next(iter(result["metrics"]))
        logger.log_metrics({f"result/{k}": v for k, v in numbers_of(result["metrics"][name]).items()})
        logger.finalize("success")


def _with_config(logger: Any, settings: dict[str, Any]) -> Any:
    logger.log_hyperparams(settings)
    return logger
