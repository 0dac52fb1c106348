"""Hydra callbacks of a sweep. They keep its table and report up to date, and end it with one message if jobs failed."""

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from evaluation.files import write_json
from evaluation.processes.user_errors import fault_in, log_traceback, message_of, shows_all_tracebacks, summary_of
from evaluation.report.study_results import read_results

log = logging.getLogger(__name__)

STARTED = ".began"  # file in the sweep's folder with a name of the command; its time is the start of the sweep
REPORT_INTERVAL = 60  # shortest time between two reports of a running sweep, seconds


class ReportCallback(Callback):
    """Writes `study.csv` and `report.html` into the sweep's folder. A job that failed is a row, too.

    Attributes:
        error: why there is no report, for `FailureCallback`: Hydra only warns of an error in a callback.
    """

    error = ""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Marks the start of the sweep."""
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STARTED).write_text(uuid4().hex)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Renews the report of a sweep if the last one is old."""
        # A report takes seconds, but an interrupted sweep should have one of its finished jobs.
        is_sweep = config.hydra.mode == RunMode.MULTIRUN
        if is_sweep and _seconds_since_report(Path(config.hydra.sweep.dir)) > REPORT_INTERVAL:
            self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes table and report of all jobs so far."""
        from evaluation.report import write_report  # matplotlib and jinja2, which the start of a command can do without

        folder = Path(config.hydra.sweep.dir)
        results = read_results(folder)
        if not results:
            if not config.dry_run:
                log.warning("no results in %s: no report", folder)
            return
        try:
            report = write_report(results, folder, "Stability under pruning", " ".join(["python", *sys.argv]))
        except Exception as error:
            ReportCallback.error = summary_of(error)
            log.error("no report", exc_info=None if message_of(error) else error)
            return
        ReportCallback.error = ""
        log.info("table %s", folder / "study.csv")
        log.info("report %s", report.absolute())


class FailureCallback(Callback):
    """Records failures of jobs. A sweep with failures ends with an exit code and one message that names all of them.

    Hydra would end a sweep at its first failed job and name only that job, and some launchers cannot return every
    exception. So each job's own process records a failure. Hydra must call this class after the other callbacks.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forgets the report of an earlier sweep in this process."""
        ReportCallback.error = ""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Records a failure. In a sweep the other jobs go on."""
        if job_return.status != JobStatus.FAILED:
            return
        _record_failure(config, job_return._return_value)
        if config.hydra.mode == RunMode.MULTIRUN:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Names the jobs that failed.

        Raises:
            SystemExit: at least one job failed, or there is no report.
        """
        folder = Path(config.hydra.sweep.dir)
        results = read_results(folder)
        failed = [result for result in results if result.get("status") == "failed"]
        if failed:
            names = "".join(f"\n  {r['folder']}: {r['error']}\n    log: {r['log']}" for r in failed)
            raise SystemExit(
                f"error: {len(failed)} of {len(results)} jobs failed. The results of the others are in {folder}; the "
                f"same command with hydra.sweep.dir={folder} tries only these once more:{names}"
            )
        if ReportCallback.error:
            raise SystemExit(f"error: all jobs finished, but there is no report: {ReportCallback.error}")


def _seconds_since_report(folder: Path) -> float:
    """Returns the age of the newest report of a sweep, or of the sweep itself if there is none."""
    report = folder / "report.html"
    newest = report if report.is_file() else folder / STARTED
    # If the clock was set back, the report seems to come from the future.
    return abs(time.time() - newest.stat().st_mtime) if newest.is_file() else math.inf


def _record_failure(config: DictConfig, error: BaseException) -> None:
    """Writes the error as the job's result, and its traceback into the job's log.

    The screen gets one line: after a sweep there may be many failures, and a single job shows its traceback itself.
    """
    folder, fault = Path(config.hydra.runtime.output_dir), fault_in(error)
    file = folder / f"{config.hydra.job.name}.log"
    if shows_all_tracebacks():
        log.error("the job failed", exc_info=fault)
    else:
        log.error("the job failed: %s", summary_of(error))
        log_traceback(fault)
    choices = config.hydra.runtime.choices
    result = {
        "job": folder.name,
        "status": "failed",
        "tracker": choices.get("tracker"),
        "method": choices.get("pruning"),
    }
    result |= {"ratio": config.get("ratio"), "seed": config.get("seed")}
    write_json(folder / "result.json", result | {"error": summary_of(error), "log": str(file)})
