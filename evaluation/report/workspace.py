"""Saves a view of a study's runs on Weights & Biases, with the optional package `wandb-workspaces`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evaluation.loggers.wandb_runs import STAGES
from evaluation.report.study_results import Result, benchmarks_of, keys_at, metrics_of

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


def save_workspace(results: Sequence[Result], project: str, entity: str, group: str) -> None:
    """Saves the view and prints its address.

    Args:
        results: of the study's jobs.
        project: of the runs.
        entity: of the runs; None for the user's own account.
        group: of the runs.

    Raises:
        SystemExit: the package is missing, or the user is not logged in.
    """
    try:
        import wandb_workspaces  # noqa: F401 (checks that it is installed)
    except ModuleNotFoundError:
        raise SystemExit(
            "error: --workspace needs wandb-workspaces: pip install 'wandb-workspaces>=0.4.13,<1'"
        ) from None
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise SystemExit("error: a view is saved on the server, which needs a login: wandb login")
    workspace_of(results, project, entity or wandb.Api().default_entity or "", group).save()


def workspace_of(results: Sequence[Result], project: str, entity: str, group: str) -> "Workspace":
    """Returns the view: metrics and retention against ratio and cost, with a point for each job, and all losses."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    def scatter(x: Any, y: str, log_x: bool) -> Any:
        return panels.ScatterPlot(title=y, x=x, y=panels.SummaryMetric(y), log_x=log_x)

    finished = [result for result in results if result.get("status") == "finished"]
    measured = [f"{b}/{metric}" for b in benchmarks_of(finished) for metric in metrics_of(finished, b)]
    costs = ["params", "macs", *(f"{kind}/{key}" for kind in ("latency", "speedup") for key in keys_at(finished, kind))]
    ratio = panels.Config("job.ratio")
    charts = {
        "Retention over ratio": [scatter(ratio, f"retention/{name}", True) for name in measured],
        "Metrics over ratio": [scatter(ratio, f"metrics/{name}", True) for name in measured],
        "Metrics over cost": [
            scatter(panels.SummaryMetric(cost), f"metrics/{name}", False) for name in measured for cost in costs
        ],
        "Losses": [panels.LinePlot(x=f"{stage}/step", y=[f"{stage}/total"]) for stage in STAGES if stage != "pruning"],
        "Pruning": [panels.LinePlot(x="pruning/step", y=["pruning/ratio_achieved"])],
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"study {group}",
        sections=[workspaces.Section(name=name, panels=found, is_open=True) for name, found in charts.items()],
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(workspaces.Metric("Group") == group, workspaces.Metric("JobType") != "study"),
            groupby=[workspaces.Config("job.tracker"), workspaces.Config("job.method")],
        ),
    )
