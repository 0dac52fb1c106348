"""Selects the keys of a configuration that a result depends on. Jobs and their stages are cached by these keys."""

from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from evaluation.study.speed import Speed

# Keys, with wildcards, that change where and how fast a result is computed, but not the result. Of data their content
# counts (`datamodule.content`, `benchmark.content`) and not the settings that say where they lie.
NO_EFFECT = (
    *("datamodule.train", "datamodule.val", "datamodule.pictures", "benchmark.sequences"),
    *("datamodule.workers", "datamodule.jobs_at_once", "datamodule.cache"),
    *("callbacks.progress.*", "callbacks.input_wait"),
    *("trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.strategy"),
)
# Keys of `pruning` that change a training in which no unit is removed before its end.
RANKING_KEYS = ("criterion", "kinds", "protect")
# Keys of `pruning` that change only a training in which the mask is annealed.
ANNEALING_KEYS = ("schedule", "every", "decay")
# Top-level keys that no number in the result of a job depends on.
NOT_IN_RESULT = ("paths", "logger", "force", "dry_run", "resume_minutes", "runner", "objective", "job", "fake_data")


def effective_keys(settings: Any, path: str = "") -> Any:
    """Returns the settings without the keys that have no effect on results.

    Args:
        settings: a configuration, or the part of it at `path`, as plain data.
        path: dotted path of the part.
    """
    if isinstance(settings, list):
        return [effective_keys(value, path) for value in settings]
    if not isinstance(settings, dict):
        return settings
    paths = {key: f"{path}.{key}" if path else str(key) for key in settings}
    kept = [key for key, at in paths.items() if not any(fnmatchcase(at, pattern) for pattern in NO_EFFECT)]
    return {key: effective_keys(settings[key], paths[key]) for key in kept}


def result_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys that the result of a job depends on. Jobs with equal keys have equal results, but for times."""
    kept = {key: value for key, value in settings.items() if key not in (*NOT_IN_RESULT, "speed")}
    return effective_keys(kept) | speed_keys(settings)


def trains(settings: Mapping[str, Any], trains_parent: bool = True) -> bool:
    """Returns whether any stage may train, so that the job depends on training data.

    Args:
        settings: the whole configuration.
        trains_parent: whether the job may train its parent.
    """
    stages = ("parent", "sparsity", "child") if trains_parent else ("sparsity", "child")
    return any(settings["stages"][stage]["steps"] for stage in stages)


def training_keys(settings: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Returns the keys that the training of a stage depends on; none if the stage does not train.

    Args:
        settings: the whole configuration, as plain data.
        stage: "parent", "sparsity" or "child".
    """
    stage_settings = settings["stages"][stage]
    if not stage_settings["steps"]:
        return {}
    shared = {key: settings[key] for key in ("datamodule", "trainer", "callbacks", "seed")}
    return shared | speed_keys(settings) | {"stage": {key: stage_settings[key] for key in ("steps", "lr_scale")}}


def speed_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of `speed` that change the rounding of a training; none if all are off."""
    off = asdict(Speed())
    used = {key: value for key, value in settings["speed"].items() if value != off.get(key, value)}
    return {"speed": used} if used else {}


def distillation_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of distillation; none without distillation."""
    return {"distillation": settings["distillation"]} if settings["distillation"] else {}


def ranking_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of `pruning` that change a training whose ranking of units serves all ratios."""
    return {key: settings["pruning"][key] for key in RANKING_KEYS}


def measures_times(pruning: Mapping[str, Any]) -> bool:
    """Returns whether a cut depends on times that are measured on this machine."""
    return pruning["ratio_of"] == "latency" or pruning["round_to"] == "auto"


def cutting_keys(settings: Mapping[str, Any], anneals: bool) -> dict[str, Any]:
    """Returns the keys that a cut depends on.

    Args:
        settings: the whole configuration, as plain data.
        anneals: whether units are removed while the network trains, instead of all at once.
    """
    dropped = ("device",) if anneals else ("device", *ANNEALING_KEYS)
    pruning = {key: value for key, value in settings["pruning"].items() if key not in dropped}
    keys = {"pruning": pruning, "ratio": settings["ratio"]}
    if measures_times(pruning):
        keys["measured"] = {"device": settings["pruning"]["device"], "threads": settings["threads"]}
    return keys
