"""The plan of a job: which stages it would make, and which are there."""

from rich.table import Table

from evaluation.files import write_json
from evaluation.study.job import Job
from evaluation.study.stage import Stage, state
from evaluation.study.stage_record import PLAN


def plan_table(job: Job) -> Table:
    """Returns a table of what a job would do: each stage with its key, state, stages before it, and length.

    Equal keys in the tables of several jobs are one stage, which is made once.
    """
    title = "{tracker} {scale}, ratio {ratio}, {method}, seed {seed}".format_map(job.identity)
    title += f"\n{job.expected}" if job.expected else ""
    table = Table("stage", "key", "state", "after", "steps x batch", title=title, title_justify="left")
    for role, stage in job.graph.items():
        after = ", ".join(r for r, s in job.graph.items() if s in stage.after)
        table.add_row(role, stage.key, state(stage, job.stages, job.command), after, _length(job, stage))
    return table


def save_plan(job: Job) -> None:
    """Writes the states of the stages to `plan.json`, for the sum over the jobs of a sweep."""
    states = {stage.key: state(stage, job.stages, job.command) for stage in job.graph.values()}
    write_json(job.folder / PLAN, states)


def _length(job: Job, stage: Stage) -> str:
    """Returns the optimizer steps of a training and the samples in each; "" for a stage that trains nothing."""
    settings = job.cfg.stages.get("sparsity" if stage.name == "ranking" else stage.name)
    trains = stage.progress and settings and settings.steps
    return f"{settings.steps:,} x {job.cfg.datamodule.batch_size}" if trains else ""
