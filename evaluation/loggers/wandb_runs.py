"""Weights & Biases: runs of jobs and studies, and trackers as artifacts.

No account is needed. Without a login, runs are offline, and `wandb sync` uploads them later. wandb is imported where it
is used, since the other loggers do not need it.
"""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb import Artifact, Run

log = logging.getLogger(__name__)

START, END = 20.0, 300.0  # longest times that a job waits for the server when its run starts and ends, seconds
STAGES = ("parent", "sparsity", "child", "pruning")  # names of metrics start with one of these and a slash
IDENTITY = ("tracker", "scale", "method", "ratio", "ratio_of", "seed", "config_hash")


def start_run(folder: str | Path, project: str, entity: str | None, **options: Any) -> "Run":
    """Starts a run: online for users who are logged in, else offline. It never asks for a login.

    The environment variable WANDB_MODE (online, offline, disabled) overrides this. If the server cannot be reached, the
    run is offline, and a warning says so.

    Args:
        folder: of the run's files, which are written to `wandb/` in it.
        project: name of the W&B project.
        entity: name of a team; None for the user's own account.
        options: name, group, job_type, tags, config, id and resume; see `wandb.init`.
    """
    import wandb

    mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
    Path(folder).mkdir(parents=True, exist_ok=True)
    # With "finish_previous" wandb returns no run that is still open.
    about: dict[str, Any] = {
        "dir": folder,
        "project": project,
        "entity": entity,
        "reinit": "finish_previous",
        **options,
    }
    # wandb prints dozens of lines about an offline run; `say_where` says what is needed in one.
    settings = wandb.Settings(init_timeout=START, finish_timeout=END, quiet=True, silent=mode == "offline")
    try:
        return wandb.init(**about, mode=mode, settings=settings)
    except (wandb.errors.CommError, ConnectionError) as error:
        reason = str(error).partition("\n")[0]
        log.warning("W&B cannot be reached (%s); the run is kept in %s/wandb for `wandb sync`", reason, folder)
        with suppress(ConnectionError):  # the process of wandb that serves this one may have died in an earlier job
            wandb.teardown()
        return wandb.init(**about, mode="offline", settings=settings.model_copy(update={"silent": True}))


def say_where(run: "Run") -> None:
    """Logs where an offline run lies and how to look at it without an account. Of online runs wandb itself says it."""
    if run.offline:
        log.info("W&B run: look at it with `wandb leet %s`, send it with `wandb sync`", run.settings.sync_dir)


def log_trackers(run: "Run", result: Mapping[str, Any], parent: Path, child: Path | None, trained: bool) -> None:
    """Logs the trackers of a job as artifacts.

    The child is an output of the run. The parent is an output if the run trained it, else an input. Each artifact has
    the aliases `latest` and the key of its stage. The child's metadata names its parent by that key.

    Args:
        run: of the job.
        result: see `evaluation.study.job_result`.
        parent: checkpoint of the parent, in the folder of its stage.
        child: checkpoint of the child, in the folder of its stage; None for a job of the parent alone.
        trained: whether this run trained the parent.
    """
    identity = {key: result[key] for key in IDENTITY}
    family = f"{result['tracker']}-{result['scale']}"
    dense = _artifact(f"{family}-parent", parent, identity | {"method": None, "ratio": 1}, result["parent"])
    aliases = ["latest", parent.parent.name]
    if trained:
        run.log_artifact(dense, aliases=aliases)
    elif run.offline:
        # `use_artifact` needs a server, although its record alone is enough for `wandb sync`. This private call writes
        # the same record offline.
        run._log_artifact(dense, aliases=aliases, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(dense, aliases=aliases)
    if child is not None:
        origin = identity | {"parent": f"{dense.name}:{aliases[-1]}"}
        small = _artifact(f"{family}-{result['method']}-{result['ratio']:g}", child, origin, result)
        run.log_artifact(small, aliases=["latest", child.parent.name])


def _artifact(name: str, file: Path, about: Mapping[str, Any], measured: Mapping[str, Any]) -> "Artifact":
    """Returns the artifact of a checkpoint; `about` and the sizes and metrics in `measured` are its metadata."""
    import wandb

    size = {"params": measured["params"], "macs": measured["macs"]["total"], "metrics": measured["metrics"]}
    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", name), "model", metadata={**about, **size})
    # The file is not copied, since parents are large and shared by many runs. So it must still exist at `wandb sync`.
    artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)
    return artifact
