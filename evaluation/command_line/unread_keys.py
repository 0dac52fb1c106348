"""Keys of a configuration that nothing reads, e.g. a misspelt key that was forced in with a plus."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evaluation.command_line.suggestions import did_you_mean

# Keys that the code of commands reads, with wildcards. Keys of a section with a _target_ are arguments of its class,
# which refuses unknown ones.
READ = (
    *("ratio", "seed", "device", "objective", "force", "fake_data", "dry_run", "scale", "threads", "resume_minutes"),
    *("checkpoint", "distillation", "action", "archive", "show.sequence", "show.frames", "show.video"),
    *("format", "precision", "folder"),
    *("source", "box", "video.frames", "video.fps"),
    *("runtime", "profile.rounds", "profile.seconds", "profile.memory", "profile.scores"),
    *("opencv.backbone", "opencv.neckhead", "opencv.net"),
    *("paths.cache", "paths.data", "paths.job", "paths.outputs", "paths.weights", "job.method", "job.tracker"),
    *("stages.*.steps", "stages.*.lr_scale", "stages.sparsity.every"),
    # Sections of which somebody may have set a value; `evaluation.study.shorthands` says what to set instead.
    *("paths", "job", "speed", "video", "stages", "stages.parent", "stages.sparsity", "stages.child"),
    "tracker*",  # in prune.py and eval.py: changes of the recipe in the checkpoint
    "callbacks*",  # any Lightning callbacks
)


def describe_unread_key(script: str, cfg: DictConfig) -> str:
    """Returns words that name a key which neither code nor another key reads; "" if all keys are read.

    Args:
        script: name of the script.
        cfg: the composed configuration of the script, with its interpolations.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    keys = dict(_leaves(plain))
    unread = [key for key in keys if not any(fnmatchcase(key, pattern) for pattern in READ)]
    if unread:
        referred = _referred(OmegaConf.to_yaml(cfg))
        unread = [key for key in unread if not any(f"{key}.".startswith(f"{name}.") for name in referred)]
    if not unread:
        return ""
    key = unread[0]
    hint = did_you_mean(key, [other for other in keys if other not in unread])
    return f"nothing in {script}.py reads the key {key}; {hint or 'leave it out'}"


def _referred(text: str) -> set[str]:
    """Returns the dotted keys in interpolations such as ${a.b}, ${oc.select:a.b,c} and ${..a.b}."""
    inside = re.findall(r"\$\{([^{}]*)\}", text)
    return {name for part in inside for word in re.split("[:,]", part) if (name := word.strip().lstrip("."))}


def _leaves(node: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys with their values, without the inside of sections that are built by a class."""
    for name, value in node.items():
        key = f"{at}.{name}" if at else str(name)
        if isinstance(value, Mapping) and value:
            if "_target_" not in value:
                yield from _leaves(value, key)
        else:
            yield key, value
