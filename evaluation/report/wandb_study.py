"""A study on Weights & Biases: a run in the sweep's group with what only all jobs together show.

A sweep ends with such a run; `python -m evaluation.dashboard` makes one for a sweep that was interrupted.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from evaluation.loggers.wandb_runs import begin
from evaluation.report.stability import Stability, stability
from evaluation.report.study_results import read_results

if TYPE_CHECKING:
    from wandb import Table

LOGGER = "evaluation.loggers.wandb"


class StudyRun(Callback):
    """Ends a sweep whose jobs log to W&B with a run of the whole study."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Logs the report that the sweep ended with, if it did."""
        folder = Path(config.hydra.sweep.dir)
        if config.logger._target_ == LOGGER and not config.dry_run and (folder / "report.html").is_file():
            log_study(folder, config.logger.project, config.logger.entity)


def log_study(folder: Path, project: str, entity: str | None) -> None:
    """Logs a study in a run of its own.

    Its table has the rows of `study.csv`; each metric has a chart of retention over ratio; the summary says each curve
    in numbers; and the report is there to look at, and as an artifact.

    Args:
        folder: of the study, with its report.
        project, entity: see `begin`.
    """
    import wandb

    results = read_results(folder)
    about = {"name": f"study {folder.name}", "group": folder.name, "job_type": "study"}
    tags = sorted({f"{key}={result[key]}" for result in results for key in ("tracker", "method") if result.get(key)})
    finished = sum(result["status"] == "finished" for result in results)
    with begin(folder, project, entity, tags=tags, **about) as run:
        rows = stability(results)
        page = wandb.Html(str(folder / "report.html"), inject=False)
        run.log({"study": _table(folder / "study.csv"), "report": page})
        run.log(dict(_charts(rows)))
        run.summary.update({"jobs/finished": finished, "jobs/failed": len(results) - finished} | dict(_numbers(rows)))
        report = wandb.Artifact(f"study-{folder.name}", "report")
        for file in ("report.html", "study.csv"):
            report.add_file(str(folder / file))
        report.add_dir(str(folder / "plots"), name="plots")
        run.log_artifact(report)


def _table(path: Path) -> "Table":
    """A CSV file; columns of numbers become numbers."""
    import wandb

    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    columns = [_typed(column) for column in zip(*rows, strict=True)]
    return wandb.Table(header, [list(row) for row in zip(*columns, strict=True)])


def _typed(column: Sequence[str]) -> list[float | None] | list[str | None]:
    try:
        return [float(cell) if cell else None for cell in column]
    except ValueError:
        return [cell or None for cell in column]


def _charts(rows: Sequence[Stability]) -> Iterator[tuple[str, Any]]:
    """Retention over ratio, for each metric a chart with a line for each tracker, scale, method and kind of ratio."""
    import wandb

    for (benchmark, metric), members in groupby(rows, lambda row: (row.curve.benchmark, row.curve.metric)):
        curves = [row.curve for row in members]
        chart = wandb.plot.line_series(
            xs=[[point.ratio for point in curve.points] for curve in curves],
            ys=[[point.mean for point in curve.points] for curve in curves],
            keys=[_label(curve.identity) for curve in curves],
            title=f"{metric} on {benchmark}: retention over ratio, mean over seeds",
            xname="ratio",
        )
        yield f"retention/{benchmark}/{metric}", chart


def _numbers(rows: Sequence[Stability]) -> Iterator[tuple[str, float]]:
    """Area and breaking ratios of each curve, where there are any."""
    for row in rows:
        name = f"{row.curve.benchmark}/{row.curve.metric}/{_label(row.curve.identity)}"
        if row.area is not None:
            yield f"area/{name}", row.area
        for level, broken in row.breaks.items():
            if broken.ratio is not None:
                yield f"breaks below {level}/{name}", broken.ratio


def _label(identity: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in identity if part)
