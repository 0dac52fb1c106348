"""Lightning's logger of a job that logs to Weights & Biases."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from evaluation.loggers.failing import job_goes_on
from evaluation.loggers.wandb_runs import STAGES

if TYPE_CHECKING:
    from wandb import Run

    from evaluation.loggers.unfinished_run import UnfinishedRun


class StageLogger(WandbLogger):
    """Logs a job's stages into one run. Each stage has its own step count: `child/total` is drawn over `child/step`.

    If W&B breaks down, the job goes on, and one warning says so.

    Args:
        run: of the job.
        checkpoints: whether parent and child are uploaded as artifacts.
        unfinished: the same run as the job's folder remembers it; None if the folder need not.
    """

    def __init__(self, run: "Run", checkpoints: bool, unfinished: "UnfinishedRun | None" = None):
        super().__init__(experiment=run)
        self.checkpoints, self.unfinished = checkpoints, unfinished
        if unfinished and unfinished.rows > run.step:
            run.log({}, step=unfinished.rows, commit=False)  # without a server, W&B would number the rows from 0 again
        self._failed = False
        for stage in STAGES:
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs one row. The stage is the part of a name before its first slash."""
        if self._failed:
            return
        self._failed = True
        with job_goes_on("log metrics; no more are logged"):
            self._log_row(metrics, step)
            if self.unfinished:
                self.unfinished.count(self.experiment.step)
            self._failed = False

    def _log_row(self, metrics: Mapping[str, float], step: int | None) -> None:
        stage = next((name.partition("/")[0] for name in metrics if "/" in name), None)
        if stage is None:
            super().log_metrics(metrics, step)
            return
        row = {name if "/" in name else f"{stage}/{name}": value for name, value in metrics.items()}
        self.experiment.log(row | {f"{stage}/step": step})
