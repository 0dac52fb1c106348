"""Builds the logger of a job. All stages of a job log into one.

Lightning and wandb are imported where they are used, since loading both takes seconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.loggers.unfinished_run import UnfinishedRun
from evaluation.loggers.wandb_runs import start_run

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

    from evaluation.loggers.stage_logger import StageLogger


def wandb(
    folder: str, project: str, entity: str | None, group: str, checkpoints: bool, settings: dict[str, Any]
) -> "StageLogger | bool":
    """Returns a logger with a Weights & Biases run. If a job has several processes, only rank zero gets one.

    A job that goes on in its folder after an interruption goes on in its run, too.

    Args:
        folder: of the job; see `start_run` for this, `project` and `entity`.
        group: folder of the sweep. If the job is in it, its name becomes the group of the run.
        checkpoints: whether parent and child are uploaded as artifacts.
        settings: the job's configuration, with the job's identity under "job".

    Returns:
        The logger; False in processes other than rank zero.
    """
    from pytorch_lightning.utilities import rank_zero_only

    from evaluation.loggers.stage_logger import StageLogger

    if rank_zero_only.rank:  # pyrefly: ignore[missing-attribute]  Lightning sets it
        return False
    unfinished = UnfinishedRun.of_job(Path(folder), settings["job"]["config_hash"], anew=settings.get("force", False))
    job = settings["job"] | {"ratio": f"{settings['job']['ratio']:g}"}
    run = start_run(
        folder,
        project,
        entity,
        name="{tracker}-{scale} {method} ratio={ratio} seed={seed}".format_map(job),
        group=Path(group).name if Path(group).absolute() in Path(folder).absolute().parents else None,
        job_type="parent" if settings["job"]["ratio"] == 1 else "child",
        tags=[f"{key}={job[key]}" for key in ("tracker", "scale", "method", "ratio", "seed")],
        config=settings,
        id=unfinished.id,
        resume="allow",
    )
    return StageLogger(run, checkpoints, unfinished)


def csv(folder: str, settings: dict[str, Any]) -> "CSVLogger":
    """Returns a logger that writes `logs/metrics.csv` in the job's folder.

    A job that goes on after an interruption writes `logs/continued_1/metrics.csv`, and so on: Lightning's logger would
    delete the file of the run before.
    """
    from pytorch_lightning.loggers import CSVLogger

    before = len([*Path(folder, "logs").rglob("metrics.csv")])
    return _with_settings(CSVLogger(folder, name="logs", version=f"continued_{before}" if before else ""), settings)


def tensorboard(folder: str, settings: dict[str, Any]) -> "TensorBoardLogger":
    """Returns a logger that writes event files in the job's folder: `tensorboard --logdir outputs`."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return _with_settings(TensorBoardLogger(folder, name="logs", version=""), settings)


def none(settings: dict[str, Any]) -> bool:
    """Returns False: the job has no logger."""
    return False


def _with_settings(logger: "Logger", settings: dict[str, Any]) -> Any:
    """Returns the logger after it has logged the settings of the job."""
    logger.log_hyperparams(settings)
    return logger
