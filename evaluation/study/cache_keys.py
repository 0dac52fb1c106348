"""What results depend on: which keys of a configuration count, and for what."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

# Keys that decide where and how fast a result comes, not what it is; with wildcards.
NO_EFFECT = (
    *("datamodule.workers", "datamodule.cache", "datamodule.*.cache", "benchmark.*.cache", "callbacks.progress.*"),
    *("trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.strategy"),
)
# Of `pruning`: what a training sees of which no unit leaves before its end, and what only such a training sees.
OF_RANKING = ("criterion", "kinds", "protect")
OF_ANNEALING = ("schedule", "every", "decay")
# Keys of the whole configuration that no number in a job's result depends on.
NOT_IN_RESULT = ("paths", "logger", "force", "dry_run", "resume_every", "runner", "objective")


def effective(plain: Any, at: str = "") -> Any:
    """`plain` without the keys that have no effect on results; `at` is where it stands in the configuration."""
    if isinstance(plain, list):
        return [effective(value, at) for value in plain]
    if not isinstance(plain, dict):
        return plain
    paths = {key: f"{at}.{key}" if at else str(key) for key in plain}
    kept = [key for key, path in paths.items() if not any(fnmatchcase(path, pattern) for pattern in NO_EFFECT)]
    return {key: effective(plain[key], paths[key]) for key in kept}


def of_result(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Equal for jobs whose results can only differ in times."""
    return effective({key: value for key, value in plain.items() if key not in NOT_IN_RESULT})


def of_training(plain: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What every training of the stage `name` depends on; nothing if the stage does not train."""
    stage = plain["stages"][name]
    if not stage["steps"]:
        return {}
    shared = {key: plain[key] for key in ("datamodule", "trainer", "callbacks", "seed")}
    return shared | {"stage": {key: stage[key] for key in ("steps", "lr_scale")}}


def of_distillation(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What the trainings that may learn from the parent depend on besides; nothing if they do not."""
    return {"distillation": plain["distillation"]} if plain["distillation"] else {}


def of_ranking(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What of the pruning a training depends on that ranks units once, for all ratios."""
    return {key: plain["pruning"][key] for key in OF_RANKING}


def of_cutting(plain: Mapping[str, Any], anneals: bool) -> dict[str, Any]:
    """What a cut depends on, by which units leave while the network trains (`anneals`), or at once."""
    pruning = {k: v for k, v in plain["pruning"].items() if (anneals or k not in OF_ANNEALING) and k != "device"}
    depends = {"pruning": pruning, "ratio": plain["ratio"]}
    if pruning["ratio_of"] == "latency":
        depends["measured"] = {"device": plain["pruning"]["device"], "threads": plain["threads"]}
    return depends
