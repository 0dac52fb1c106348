"""Ends the log of a job: with its result, or with the error that stopped it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.loggers.wandb_runs import StageLogger, log_trackers, summary_of
from evaluation.tracking.metrics import scores_of


def finish_logger(logger: Any, result: dict[str, Any], parent: Path, child: Path | None, trained: bool) -> None:
    """Puts the job's result where the logger's readers look for it.

    Args:
        logger: of the job; False for none.
        result: see `evaluation.study.job_result`.
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
        logger.log_metrics({f"result/{k}": v for k, v in scores_of(result["metrics"][name]).items()})
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
