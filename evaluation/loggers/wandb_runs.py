"""Weights & Biases: runs of jobs and studies, and trackers as artifacts.

Nothing here needs an account. Whoever is not logged in gets offline runs, which `wandb sync` sends later. wandb itself
is imported where it is used: the other loggers do without it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from evaluation.tracking.metrics import scores_of

if TYPE_CHECKING:
    from wandb import Artifact, Run

STAGES = ("parent", "sparsity", "child", "pruning")  # what stands before the slash in the names of losses and the like
IDENTITY = ("tracker", "scale", "method", "ratio", "ratio_of", "seed", "config_hash")


def begin(folder: str | Path, project: str, entity: str | None, **about: Any) -> "Run":
    """A run: online for whoever is logged in, else offline, without a question and without failing.

    WANDB_MODE (online, offline, disabled) decides if it is set.

    Args:
        folder: where the run's files go, below `wandb/`.
        project: of W&B.
        entity: a team, or None for oneself.
        about: name, group, job_type, tags and config, as `wandb.init` takes them.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
    Path(folder).mkdir(parents=True, exist_ok=True)
    # A run that somebody left open would otherwise be returned in place of a new one.
    return wandb.init(dir=folder, project=project, entity=entity, mode=mode, reinit="finish_previous", **about)


class StageLogger(WandbLogger):
    """A job's run for Lightning. Every stage counts its own steps: `child/total` is drawn over `child/step`.

    Args:
        run: the job's.
        checkpoints: whether parent and child become artifacts.
    """

    def __init__(self, run: "Run", checkpoints: bool):
        super().__init__(experiment=run)
        self.checkpoints = checkpoints
        for stage in STAGES:
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One row; its stage is what stands before the first slash."""
        stage = next((name.partition("/")[0] for name in metrics if "/" in name), None)
        if stage is None:
            super().log_metrics(metrics, step)
            return
        row = {name if "/" in name else f"{stage}/{name}": value for name, value in metrics.items()}
        self.experiment.log(row | {f"{stage}/step": step})


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a finished job under the names that tables and charts of W&B sort by.

    `metrics/<benchmark>/<metric>`, likewise `retention/` and `still_box/`; `latency/<device>` in ms; `macs`, `params`
    and `ratio_achieved`; and the protocol of each benchmark.
    """
    found = {key: result[key] for key in ("params", "ratio_achieved", "masked_vs_compacted")}
    found["macs"] = result["macs"]["total"]
    for kind in ("metrics", "retention", "still_box"):
        for benchmark, report in result[kind].items():
            found |= {f"{kind}/{benchmark}/{name}": value for name, value in scores_of(report).items()}
    found |= {f"protocol/{benchmark}": report["protocol"] for benchmark, report in result["metrics"].items()}
    return found | {f"latency/{device}": measured["ms"] for device, measured in result["latency"].items()}


def log_trackers(run: "Run", result: Mapping[str, Any], parent: Path, child: Path | None, trained: bool) -> None:
    """Logs the trackers of a job as artifacts: the child is made by the run, the parent is used or made by it.

    Each has the alias `latest` and the key of the stage that made it, by which the child's metadata names its parent.

    Args:
        run: of the job.
        result: see `evaluation.study.job_result`.
        parent: its checkpoint, in the folder of its stage.
        child: likewise; None for a job of the parent alone.
        trained: whether this run trained the parent.
    """
    identity = {key: result[key] for key in IDENTITY}
    family = f"{result['tracker']}-{result['scale']}"
    dense = _artifact(f"{family}-parent", parent, identity | {"method": None, "ratio": 1}, result["parent"])
    aliases = ["latest", parent.parent.name]
    if trained:
        run.log_artifact(dense, aliases=aliases)
    elif run.offline:
        # `use_artifact` refuses to work without a server, although the record that it would send holds all that
        # `wandb sync` needs to make the edge. This is how it sends it.
        run._log_artifact(dense, aliases=aliases, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(dense, aliases=aliases)
    if child is not None:
        origin = identity | {"parent": f"{dense.name}:{aliases[-1]}"}
        small = _artifact(f"{family}-{result['method']}-{result['ratio']:g}", child, origin, result)
        run.log_artifact(small, aliases=["latest", child.parent.name])


def _artifact(name: str, file: Path, about: Mapping[str, Any], measured: Mapping[str, Any]) -> "Artifact":
    import wandb

    size = {"params": measured["params"], "macs": measured["macs"]["total"], "metrics": measured["metrics"]}
    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", name), "model", metadata={**about, **size})
    # Not copied, for parents are large and used by many: the file must be there still when an offline run is sent.
    artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)
    return artifact
