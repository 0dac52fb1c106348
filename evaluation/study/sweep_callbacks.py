"""The Hydra callbacks that keep a sweep's table and report up to date, and end it with one message if jobs failed."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from evaluation.files import write_json
from evaluation.report import write_report
from evaluation.report.study_results import read_results

log = logging.getLogger(__name__)

BEGAN = ".began"  # in the sweep's folder: its time is that of the sweep's begin


class ReportCallback(Callback):
    """Writes `study.csv` and `report.html` into the sweep's folder. A job that failed is a row, too.

    Hydra would end a sweep at its first failed job and name only that; and some launchers cannot bring every exception
    home. So what failed is noted in the job's own process, and `FailureCallback` says it when all others are through.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Marks the begin of the sweep."""
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEGAN).touch()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes what became of the job."""
        sweeps = config.hydra.mode == RunMode.MULTIRUN
        if job_return.status == JobStatus.FAILED:
            _note_failure(config, job_return._return_value)
            if sweeps:
                job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        report = Path(config.hydra.sweep.dir) / "report.html"
        # Whoever interrupts a sweep has a report of what is done. It takes seconds; one a minute is enough.
        if sweeps and not (report.is_file() and time.time() - report.stat().st_mtime < 60):
            self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collects all results of the sweep so far."""
        folder = Path(config.hydra.sweep.dir)
        results = read_results(folder)
        if not results:
            if not config.dry_run:
                log.warning("no results in %s: no report", folder)
            return
        report = write_report(results, folder, "Stability under pruning", " ".join(["python", *sys.argv]))
        log.info("table %s", folder / "study.csv")
        log.info("report %s", report.absolute())


class FailureCallback(Callback):
    """Ends a sweep of which jobs failed with an exit code and one message. It has to be the last to be called."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Names the jobs that failed.

        Raises:
            SystemExit: there are some.
        """
        folder = Path(config.hydra.sweep.dir)
        results = read_results(folder)
        failed = [result for result in results if result["status"] == "failed"]
        if failed:
            names = "".join(f"\n  {r['folder']}: {r['error']}\n    log: {r['log']}" for r in failed)
            raise SystemExit(
                f"error: {len(failed)} of {len(results)} jobs failed. The others are in {folder / 'study.csv'}; the "
                f"same command with hydra.sweep.dir={folder} tries only these once more:{names}"
            )


def _note_failure(config: DictConfig, error: BaseException) -> None:
    """Leaves the error as the job's result, and where it happened in the job's log."""
    folder = Path(config.hydra.runtime.output_dir)
    log.error("the job failed", exc_info=error)
    choices = config.hydra.runtime.choices
    about = {"job": folder.name, "status": "failed", "tracker": choices.get("tracker"), "method": choices.pruning}
    about |= {"ratio": config.get("ratio"), "seed": config.get("seed")}
    file = folder / f"{config.hydra.job.name}.log"
    write_json(folder / "result.json", about | {"error": f"{type(error).__name__}: {error}", "log": str(file)})
