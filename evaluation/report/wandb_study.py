"""Logs a study to Weights & Biases: a run in the sweep's group with the results of all jobs together.

A sweep ends with such a run. `python -m evaluation.dashboard` makes one for a sweep that was interrupted.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from evaluation.loggers.wandb_runs import say_where, start_run
from evaluation.report.stability import Stability, stability_of
from evaluation.report.stability_tables import describe_break
from evaluation.report.study_results import read_results
from evaluation.report.wandb_table import constants_of, study_table

LOGGER = "evaluation.loggers.wandb"


class StudyRun(Callback):
    """A Hydra callback: logs the whole study in a run at the end of a sweep whose jobs log to W&B."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Logs the study if the sweep has a report."""
        folder = Path(config.hydra.sweep.dir)
        if config.logger._target_ == LOGGER and not config.dry_run and (folder / "report.html").is_file():
            log_study(folder, config.logger.project, config.logger.entity)


def log_study(folder: Path, project: str, entity: str | None) -> None:
    """Logs a study in a run of its own.

    The run has a table with a row for each job, a chart of retention over ratio for each metric, the areas and the
    breaking ratios in its summary, what all jobs share in its config, and the report both as a page and as an artifact.

    Args:
        folder: of the study, with its report.
        project, entity: see `start_run`.
    """
    import wandb

    results = read_results(folder)
    about = {"name": f"study {folder.name}", "group": folder.name, "job_type": "study"}
    tags = sorted({f"{key}={result[key]}" for result in results for key in ("tracker", "method") if result.get(key)})
    finished = sum(result["status"] == "finished" for result in results)
    with start_run(folder, project, entity, tags=tags, config=constants_of(results), **about) as run:
        rows = stability_of(results)
        page = wandb.Html(str(folder / "report.html"), inject=False)
        columns, cells = study_table(results)
        run.log({"study": wandb.Table(columns, cells), "report": page})
        run.log(dict(_charts(rows)))
        run.summary.update({"jobs/finished": finished, "jobs/failed": len(results) - finished} | dict(_numbers(rows)))
        report = wandb.Artifact(f"study-{folder.name}", "report")
        for file in (folder / "report.html", folder / "study.csv", *sorted((folder / "plots").iterdir())):
            report.add_file(str(file), name=str(file.relative_to(folder)))
        run.log_artifact(report)
        say_where(run)


def _charts(rows: Sequence[Stability]) -> Iterator[tuple[str, Any]]:
    """Yields a chart of retention over ratio for each metric, with a line for each curve."""
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


def _numbers(rows: Sequence[Stability]) -> Iterator[tuple[str, float | str]]:
    """Yields the area of each curve, if it has one, and its breaking ratios in the words of the report."""
    for row in rows:
        name = f"{row.curve.benchmark}/{row.curve.metric}/{_label(row.curve.identity)}"
        if row.area is not None:
            yield f"area/{name}", row.area
        for level, found in row.breaks.items() if row.seeds else ():
            yield f"breaks below {level}/{name}", describe_break(found, row.smallest_ratio)


def _label(identity: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in identity if part)
