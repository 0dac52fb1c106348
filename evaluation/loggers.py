"""Loggers of a job. All stages of a job log into one, and the result is its summary."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from evaluation.results import numbers_of
from evaluation.wandb_runs import StageLogger, begin, log_trackers, summary_of


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


def finish_logger(logger: Any, result: dict[str, Any], parent: Path, child: Path | None, trained: bool) -> None:
    """Puts the job's result where the logger's readers look for it.

    Args:
        logger: of the job; False for none.
        result: see `evaluation.results`.
        parent, child, trained: see `log_trackers`.
    """
    if isinstance(logger, StageLogger):
        run = logger.experiment
        run.summary.update(summary_of(result))
        run.log({"kept units": _kept(result["units"])})
        if logger.checkpoints:
            log_trackers(run, result, parent, child, trained)
        run.finish()
    elif logger:
        name = next(iter(result["metrics"]))
        logger.log_metrics({f"result/{k}": v for k, v in numbers_of(result["metrics"][name]).items()})
        logger.finalize("success")


@contextmanager
def marked_if_failed(logger: Any) -> Iterator[None]:
    """Whatever fails inside ends the job's log, which says so."""
    try:
        yield
    except BaseException as error:
        if isinstance(logger, StageLogger):
            logger.experiment.summary["error"] = f"{type(error).__name__}: {error}"
            logger.experiment.finish(exit_code=1)
        elif logger:
            logger.finalize("failed")
        raise


def _kept(units: dict[str, dict[str, Any]]) -> Any:
    import wandb as wb

    rows = [[name, unit["kind"], unit["kept"], unit["kept"] / unit["size"]] for name, unit in units.items()]
    table = wb.Table(["layer", "kind", "kept", "share"], rows)
    return wb.plot.bar(table, "layer", "share", title="Kept share of units by layer")


def _with_config(logger: Any, settings: dict[str, Any]) -> Any:
    logger.log_hyperparams(settings)
    return logger
