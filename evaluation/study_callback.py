"""The Hydra callback that keeps a sweep's table and report up to date, after every job and at the end."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from evaluation.files import write_json
from evaluation.report import write_report

log = logging.getLogger(__name__)


class ReportCallback(Callback):
    """Writes `study.csv` and `report.html` into the sweep's folder. A job that failed is a row, too."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes what became of the job."""
        if job_return.status == JobStatus.FAILED:
            folder = Path(config.hydra.runtime.output_dir)
            error = job_return._return_value
            about = {"job": folder.name, "ratio": config.get("ratio"), "seed": config.get("seed")}
            write_json(
                folder / "result.json", about | {"status": "failed", "error": f"{type(error).__name__}: {error}"}
            )
        if config.hydra.mode == RunMode.MULTIRUN:
            self.on_multirun_end(config)  # a sweep with a failed job never gets to its end

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collects all results of the sweep so far."""
        folder = Path(config.hydra.sweep.dir)
        results = [json.loads(p.read_text()) | {"folder": p.parent.name} for p in sorted(folder.glob("*/result.json"))]
        if not results:
            log.warning("no results in %s: no report", folder)
            return
        report = write_report(results, folder, "Stability under pruning", " ".join(["python", *sys.argv]))
        log.info("table %s", folder / "study.csv")
        log.info("report %s", report.absolute())
