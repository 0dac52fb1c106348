"""Hydra callbacks of a sweep. They keep its table and report up to date, and end it with one message if jobs failed."""

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig

from evaluation.files import write_json
from evaluation.processes.command_state import command_state
from evaluation.processes.joblib_process import forget_jobs, silence_leaks, wait_for_jobs
from evaluation.processes.user_errors import fault_in, log_traceback, message_of, shows_all_tracebacks, summary_of
from evaluation.report.files_guide import files_guide, show_command
from evaluation.report.study_results import Result, number_at, read_results
from evaluation.study.stage_record import PLAN

log = logging.getLogger(__name__)

STARTED = ".began"  # file in the sweep's folder with a name of the command; its time is the start of the sweep
SAME_PARENT = ("tracker", "scale", "seed")  # what a child and its parent have in common
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
        command_state.close = partial(self.write, config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Renews the report of a sweep if the last one is old."""
        # A report takes seconds, but an interrupted sweep should have one of its finished jobs.
        is_sweep = config.hydra.mode == RunMode.MULTIRUN and not config.dry_run
        if is_sweep and _seconds_since_report(Path(config.hydra.sweep.dir)) > REPORT_INTERVAL:
            self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes table and report of all jobs so far. After a dry run it says how many stages there are."""
        if config.dry_run:
            log.info(_sum_of_plans(Path(config.hydra.sweep.dir)))
        elif report := self.write(config):
            log.info("report %s", report.absolute())
        elif not ReportCallback.error:
            log.warning("no results in %s: no report", config.hydra.sweep.dir)

    def write(self, config: DictConfig) -> Path | None:
        """Writes table and report of all jobs so far, and returns the path of the report.

        Returns:
            None if there are no results, in a dry run, or if the report fails.
        """
        from evaluation.report import write_report  # matplotlib and jinja2, which the start of a command can do without

        folder = Path(config.hydra.sweep.dir)
        results = read_results(folder)
        if config.dry_run or not results:
            return None
        try:
            report = write_report(results, folder, "Stability under pruning", command_state.given_command())
        except Exception as error:
            ReportCallback.error = summary_of(error)
            log.error("no report", exc_info=None if message_of(error) else error)
            return None
        ReportCallback.error = ""
        return report


class FailureCallback(Callback):
    """Records failures of jobs. A sweep with failures ends with an exit code and one message that names all of them.

    Hydra would end a sweep at its first failed job and name only that job, and some launchers cannot return every
    exception. So each job's own process records a failure. Hydra must call this class after the other callbacks.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forgets the report of an earlier sweep in this process, and prepares for a signal that ends this one."""
        ReportCallback.error = ""
        folder = Path(config.hydra.sweep.dir)
        forget_jobs(folder)
        silence_leaks()
        command_state.sweep, command_state.wait = partial(_finished_jobs, folder), partial(wait_for_jobs, folder)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Records a failure. In a sweep the other jobs go on."""
        if job_return.status != JobStatus.FAILED:
            return
        _record_failure(config, job_return._return_value)
        if config.hydra.mode == RunMode.MULTIRUN:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints what the study says and which file answers what, and names the jobs that failed.

        Raises:
            SystemExit: at least one job failed, or there is no report.
        """
        folder = Path(config.hydra.sweep.dir)
        results, message = read_results(folder), ""
        if results and not config.get("dry_run"):
            if not ReportCallback.error and (folder / "report.html").is_file():
                from evaluation.report import study_answer

                print(f"\n{study_answer(results, folder)}\n")
            print(files_guide(folder, _next_command(config, results)))
        failed = [result for result in results if result.get("status") == "failed"]
        if failed and config.get("dry_run"):
            count = len(failed) + len([*folder.glob(f"*/{PLAN}")])
            names = "".join(f"\n  {r['folder']}: {r['error']}" for r in failed)
            message = f"error: {len(failed)} of {count} jobs would fail:{names}"
        elif failed:
            names = "".join(f"\n  {r['folder']}: {r['error']}\n    log: {r['log']}" for r in failed)
            message = (
                f"error: {len(failed)} of {len(results)} jobs failed. The results of the others are in {folder}:{names}"
                f"\nto try only the failed ones once more: {command_state.resume_command()}"
            )
        elif ReportCallback.error:
            message = f"error: all jobs finished, but there is no report: {ReportCallback.error}"
        command_state.begin_command()
        if message:
            raise SystemExit(message)


def _finished_jobs(folder: Path) -> str:
    """Returns in words how many jobs of a sweep are finished, and where their table is; "" without one."""
    count = sum(result.get("status") != "failed" for result in read_results(folder))
    table = folder / "study.csv"
    words = f"{count} finished {'job' if count == 1 else 'jobs'}"
    return (f"{words}: {table}" if table.is_file() else words) if count else "no job of the sweep is finished"


def _sum_of_plans(folder: Path) -> str:
    """Returns in words how many jobs and different stages the plans in the folders of jobs have together."""
    plans = [json.loads(path.read_text()) for path in folder.glob(f"*/{PLAN}")]
    states = {key: state.partition(",")[0] for plan in plans for key, state in plan.items()}
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items()))
    return f"{len(plans)} jobs, {len(states)} stages: {counts}"


def _next_command(config: DictConfig, results: Sequence[Result]) -> str:
    """Returns the command that shows two trackers of a sweep on the same frames; "" without two.

    They are a parent and its largest child, or the first two trackers of a sweep without such a pair.
    """
    folder, hydra = Path(config.hydra.sweep.dir), config.hydra
    files = {
        str(file): result
        for result in results
        if (file := folder / result["folder"] / "checkpoint.safetensors").is_file()
    }
    if len(files) < 2:
        return ""
    ratios = {file: number_at(result, "ratio") or 1 for file, result in files.items()}
    parents = [file for file, ratio in ratios.items() if ratio == 1]
    children = sorted((file for file, ratio in ratios.items() if ratio < 1), key=lambda file: -ratios[file])
    pairs = ((p, c) for c in children for p in parents if all(files[p].get(k) == files[c].get(k) for k in SAME_PARENT))
    shown = next(pairs, tuple(files)[:2])
    fixed = [override for override in hydra.overrides.task if "," not in override]  # others differ between the jobs
    return show_command(shown, fixed, hydra.runtime.choices.get("benchmark", ""))


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
    values = {key: config.get(key) for key in ("ratio", "seed")}
    result |= {key: str(value) if isinstance(value, ListConfig) else value for key, value in values.items()}
    write_json(folder / "result.json", result | {"error": summary_of(error), "log": str(file)})
