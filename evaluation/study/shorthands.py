"""Shorthands: words for sections of the configuration, as in pruning.schedule=Linear; sections that have none."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evaluation.errors import UserError
from evaluation.study.settings import as_written


def _classes(module: str, *names: str) -> dict[str, Any]:
    return {name: {"_target_": f"{module}.{name}"} for name in names}


# Sections by dotted path, and what each word stands for there. A class then has its own defaults.
SHORTHANDS: dict[str, dict[str, Any]] = {
    "pruning.schedule": _classes("pruning.schedules", "Cubic", "Linear", "Exponential", "OneShot"),
    "pruning.scope": {pool: {"default": pool} for pool in ("global", "kind", "layer")},
    "tracker.recipe.schedule": _classes("trackers.schedules", "WarmupCosine", "StepDrop"),
}
# Lists for which one word is a list of one.
LISTS = ("pruning.kinds", "pruning.protect", "runner.devices")
# Sections that no word stands for, with an override that works, each after the sections that it lies in.
SECTIONS = {
    "paths": "paths.data=/data",
    "job": "job.method=mine",
    "speed": "speed.channels_last=true",
    "stages": "stages.child.steps=100",
    "stages.parent": "stages.parent.steps=1000",
    "stages.sparsity": "stages.sparsity.steps=100",
    "stages.child": "stages.child.steps=100",
    "runner": "runner.lockstep=16",
    "trainer": "trainer.precision=bf16-mixed",
    "synthetic": "synthetic.train.sequences=300",
    "synthetic.train": "synthetic.train.sequences=300",
    "synthetic.val": "synthetic.val.sequences=20",
    "callbacks": "callbacks.progress.refresh_rate=20",
    "datamodule": "datamodule.batch_size=12",
    "datamodule.sampler": "datamodule.sampler.max_gap=200",
    "datamodule.augmentation": "datamodule.augmentation.flip=0",
    "datamodule.train": "datamodule.train.got10k.weight=1",
    "benchmark": "benchmark=synthetic",
    "benchmark.sequences": "benchmark=folder benchmark.sequences.root=walk.mp4",
    "video": "action=video source=walk.mp4",
    "pruning": "pruning=magnitude",
    "pruning.criterion": "pruning=taylor, which chooses the criterion with its settings",
    "pruning.criterion.penalty": "pruning.criterion.penalty.default=1e-4",
    "tracker": "+tracker.recipe.lr=1e-4",
    "tracker.recipe": "tracker.recipe.lr=1e-4",
}


def expand_shorthands(cfg: DictConfig) -> None:
    """Replaces each word by the section that it stands for.

    Args:
        cfg: the composed configuration, changed in place. Its interpolations stay.

    Raises:
        UserError: a word stands for nothing, or a section has a value in place of its settings.
    """
    plain = OmegaConf.to_container(cfg, resolve=False)
    for path, example in SECTIONS.items():
        found, value = _find(plain, path)
        if found and not isinstance(value, Mapping) and not _is_reference(value):
            raise UserError(
                f"{path}={as_written(value)} is no value: {path} is a section of settings; set e.g. {example}"
            )
    for path, words in SHORTHANDS.items():
        found, value = _find(plain, path)
        if found and not isinstance(value, Mapping) and not _is_reference(value):
            OmegaConf.update(cfg, path, _meaning(path, value, words), merge=False)
    for path in LISTS:
        _, value = _find(plain, path)
        if isinstance(value, str) and not _is_reference(value):
            OmegaConf.update(cfg, path, [value], merge=False)


def _meaning(path: str, value: Any, words: Mapping[str, Any]) -> Any:
    """Returns what a word stands for; capitals, dashes and underscores do not matter."""
    by_letters = {_letters(word): word for word in words}
    letters = _letters(as_written(value))
    if letters not in by_letters:
        near = get_close_matches(letters, by_letters, 1)
        hint = f"did you mean {by_letters[near[0]]}?" if near else f"choose one of {', '.join(words)}"
        raise UserError(f"{path}={as_written(value)} is not known; {hint}")
    return words[by_letters[letters]]


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower()))


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _find(node: Any, path: str) -> tuple[bool, Any]:
    """Returns whether there is a value at a dotted path, and the value."""
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False, None
        node = node[name]
    return True, node
