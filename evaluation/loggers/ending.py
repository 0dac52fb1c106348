"""Ends the log of a job, with its result or with the error that stopped it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.loggers.failing import job_goes_on
from evaluation.loggers.run_summary import protocols_of, summary_of
from evaluation.loggers.wandb_runs import log_trackers, say_where
from evaluation.tracking.metrics import scores_of

if TYPE_CHECKING:
    from evaluation.loggers.stage_logger import StageLogger


def finish_logger(logger: Any, result: dict[str, Any], parent: Path, child: Path | None, trained: bool) -> None:
    """Logs the job's result and ends the log. If the logger fails, the job has its result nevertheless.

    Args:
        logger: of the job; False for none.
        result: see `evaluation.study.job_result`.
        parent, child, trained: see `log_trackers`.
    """
    with job_goes_on("log the result"):
        if _is_wandb(logger):
            run = logger.experiment
            run.summary.update(summary_of(result))
            run.config.update({"protocols": protocols_of(result)}, allow_val_change=True)
            run.log({"kept units": _kept_units_chart(result["units"])})
            if logger.checkpoints:
                log_trackers(run, result, parent, child, trained)
            if logger.unfinished:
                if logger.unfinished.is_continued:
                    run.summary["error"] = None  # of an earlier command
                logger.unfinished.forget()
            say_where(run)
            run.finish()
        elif logger:
            name = next(iter(result["metrics"]))
            logger.log_metrics({f"result/{k}": v for k, v in scores_of(result["metrics"][name]).items()})
            logger.finalize("success")


@contextmanager
def marked_if_failed(logger: Any) -> Iterator[None]:
    """Ends the job's log as failed, with the error, if the block raises one, or as preempted after a signal."""
    try:
        yield
    except BaseException as error:
        with job_goes_on("log the error"):
            if _is_wandb(logger):
                run = logger.experiment
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    run.mark_preempting()  # so that W&B calls the run preempted and not failed
                else:
                    run.summary["error"] = f"{type(error).__name__}: {error}"
                run.finish(exit_code=1)
            elif logger:
                logger.finalize("failed")
        raise


def _is_wandb(logger: "StageLogger | Any") -> bool:
    """Returns whether the job logs to Weights & Biases."""
    from evaluation.loggers.stage_logger import StageLogger

    return isinstance(logger, StageLogger)


def _kept_units_chart(units: dict[str, dict[str, Any]]) -> Any:
    """Returns a W&B bar chart of the kept share of units in each group."""
    import wandb as wb

    rows = [[name, unit["kind"], unit["kept"], unit["kept"] / unit["size"]] for name, unit in units.items()]
    table = wb.Table(["layer", "kind", "kept", "share"], rows)
    return wb.plot.bar(table, "layer", "share", title="Kept share of units by layer")
