"""Builds the logger of a job. All stages of a job log into one."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from evaluation.loggers.wandb_runs import StageLogger, begin


def wandb(
    folder: str, project: str, entity: str | None, group: str, checkpoints: bool, settings: dict[str, Any]
) -> StageLogger | bool:
    """A Weights & Biases run, for one of the processes that train together; False for the others.

    Args:
        folder: of the job; see `begin` for this, `project` and `entity`.
        group: the sweep's folder, whose name the group gets if the job is in it.
        checkpoints: whether parent and child become artifacts.
        settings: the job's configuration, and under "job" what identifies it.
    """
    if rank_zero_only.rank:
        return False
    job = settings["job"] | {"ratio": f"{settings['job']['ratio']:g}"}
    run = begin(
        folder,
        project,
        entity,
        name="{tracker}-{scale} {method} ratio={ratio} seed={seed}".format_map(job),
        group=Path(group).name if Path(group).absolute() in Path(folder).absolute().parents else None,
        job_type="parent" if settings["job"]["ratio"] == 1 else "child",
        tags=[f"{key}={job[key]}" for key in ("tracker", "scale", "method", "ratio", "seed")],
        config=settings,
    )
    return StageLogger(run, checkpoints)


def csv(folder: str, settings: dict[str, Any]) -> CSVLogger:
    """`metrics.csv` in the job's folder."""
    return _with_config(CSVLogger(folder, name="logs", version=""), settings)


def tensorboard(folder: str, settings: dict[str, Any]) -> TensorBoardLogger:
    """Event files in the job's folder: `tensorboard --logdir outputs`."""
    return _with_config(TensorBoardLogger(folder, name="logs", version=""), settings)


def none(settings: dict[str, Any]) -> bool:
    """No logger."""
    return False


def _with_config(logger: Any, settings: dict[str, Any]) -> Any:
    logger.log_hyperparams(settings)
    return logger
