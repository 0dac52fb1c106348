"""The values that settings may have, in one table. They are checked before anything is built or trained."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from evaluation.errors import UserError
from pruning.budget import check_ratio


@dataclass(frozen=True)
class Rule:
    """Values that a setting may have.

    Attributes:
        words: description of the values, e.g. "a whole number in [1, inf)".
        allows: returns whether one value is allowed.
        example: value that works.
    """

    words: str
    allows: Callable[[Any], bool]
    example: Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _interval(text: str) -> Callable[[float], bool]:
    low, high = (float(end) for end in text[1:-1].split(","))
    return lambda v: (low <= v if text[0] == "[" else low < v) and (v <= high if text[-1] == "]" else v < high)


def as_written(value: Any) -> str:
    """Returns a value as it is written on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def number(interval: str, example: float) -> Rule:
    """Returns the rule of finite numbers in an interval such as "(0, 1]"; a round bracket leaves its end out."""
    inside = _interval(interval)
    return Rule(f"a number in {interval}", lambda v: _is_number(v) and inside(v), example)


def whole(interval: str, example: int) -> Rule:
    """Returns the rule of whole numbers in an interval."""
    inside = _interval(interval)
    return Rule(f"a whole number in {interval}", lambda v: _is_number(v) and isinstance(v, int) and inside(v), example)


def choice(*values: Any) -> Rule:
    """Returns the rule of a few values."""
    words = "one of " + ", ".join(map(as_written, values))
    return Rule(words, lambda v: any(type(v) is type(known) and v == known for known in values), values[0])


def none_or(rule: Rule) -> Rule:
    """Returns a rule that also allows null."""
    return Rule(f"null or {rule.words}", lambda v: v is None or rule.allows(v), rule.example)


def device() -> Rule:
    """Returns the rule of torch devices."""
    known = re.compile(r"cpu|mps|cuda(:\d+)?")
    return Rule("cpu, cuda or cuda:NUMBER", lambda v: isinstance(v, str) and bool(known.fullmatch(v)), "cpu")


def devices() -> Rule:
    """Returns the rule of lists of torch devices."""
    one = device()
    return Rule(
        "a list of devices (cpu, cuda or cuda:NUMBER)",
        lambda v: isinstance(v, list) and bool(v) and all(map(one.allows, v)),
        ["cuda:0", "cuda:1"],
    )


def or_word(word: str, rule: Rule) -> Rule:
    """Returns a rule that also allows one word."""
    return Rule(f"{word} or {rule.words}", lambda v: v == word or rule.allows(v), rule.example)


FLAG = choice(False, True)
TEXT = Rule("a text that is not empty", lambda v: isinstance(v, str) and v != "", "mine")
SHARE = number("[0, 1]", 0.5)
WEIGHT = number("[0, inf)", 1.0)
COUNT = whole("[1, inf)", 1)

# Settings by dotted path, with wildcards. The first pattern that fits a path holds. Settings that are not listed are
# checked by the class that they build.
RULES: dict[str, Rule] = {
    "seed": whole("[0, 4294967295]", 42),
    "*.seed": whole("[0, 4294967295]", 42),
    "device": device(),
    "pruning.device": device(),
    "threads": none_or(whole("[1, 1024]", 1)),
    "resume_minutes": number("[0, inf)", 10),
    "speed.compile": none_or(choice("default", "reduce-overhead", "max-autotune")),
    "speed.channels_last": FLAG,
    "speed.matmul_precision": choice("highest", "high"),
    "force": FLAG,
    "paths.*": TEXT,
    "job.*": TEXT,
    "dry_run": FLAG,
    "folder": TEXT,
    "archive": TEXT,
    "profile.rounds": whole("[10, 100000]", 100),
    "profile.seconds": number("(0, inf)", 120),
    "profile.memory": FLAG,
    "profile.scores": none_or(TEXT),
    "opencv.*": none_or(TEXT),
    # Stages
    "stages.*.steps": whole("[0, inf)", 100),
    "stages.*.lr_scale": number("(0, inf)", 1.0),
    "stages.*.every": whole("[1, inf)", 10),
    # Data
    "datamodule.batch_size": whole("[1, inf)", 12),
    "datamodule.device_batch_size": none_or(whole("[1, inf)", 32)),
    "datamodule.samples_per_epoch": whole("[1, inf)", 2400),
    "datamodule.val_samples": whole("[0, inf)", 0),
    "datamodule.workers": none_or(whole("[0, inf)", 1)),
    "datamodule.jobs_at_once": COUNT,
    "datamodule.reduced_decoding": FLAG,
    "datamodule.sampler.max_gap": whole("[1, inf)", 200),
    "datamodule.sampler.min_frames": whole("[2, inf)", 20),
    "datamodule.sampler.min_visible": whole("[0, inf)", 5),
    "datamodule.*augmentation.*": SHARE,
    "datamodule.*.weight": WEIGHT,
    "datamodule.*.camera": SHARE,
    "datamodule.*.stretch": SHARE,
    "datamodule.*.cover": SHARE,
    "*.only_complete": FLAG,
    "datamodule.*bank.real_*": SHARE,
    "datamodule.*bank.*": whole("[8, inf)", 1000),
    "synthetic.width": whole("[32, 8192]", 320),
    "synthetic.height": whole("[32, 8192]", 240),
    "synthetic.*.sequences": whole("[1, inf)", 20),
    "synthetic.*.frames": whole("[1, inf)", 20),
    "synthetic.*.stride": whole("[1, inf)", 1),
    "fake_data.videos.width": whole("[32, 8192]", 320),
    "fake_data.videos.height": whole("[32, 8192]", 240),
    "fake_data.videos.*.*": whole("[1, inf)", 20),
    "fake_data.lasot_*": Rule("a list of names", lambda v: isinstance(v, list) and len(v) > 0, ["airplane-1"]),
    "fake_data.folder": TEXT,
    # Recipe, crops, losses and online loop of trackers
    "tracker.recipe.lr": number("(0, inf)", 1e-4),
    "tracker.recipe.rates.*": WEIGHT,
    "tracker.recipe.weight_decay": WEIGHT,
    "tracker.recipe.decay_vectors": FLAG,
    "tracker.recipe.clip": none_or(number("(0, inf)", 0.1)),
    "tracker.recipe.schedule.warmup": number("[0, 1)", 0.05),
    "tracker.recipe.schedule.at": number("(0, 1]", 0.8),
    "tracker.recipe.schedule.factor": SHARE,
    "tracker.*.size": whole("[8, 4096]", 96),
    "tracker.*.factor": number("(0, inf)", 4.0),
    "tracker.*.centre_jitter": WEIGHT,
    "tracker.*.scale_jitter": WEIGHT,
    "tracker.*.count": COUNT,
    "tracker.recipe.negatives": number("[0, 1)", 0.0),
    "tracker.loss.cells": choice("best", "near"),
    "tracker.loss.*": WEIGHT,
    "tracker.weights.*": WEIGHT,
    "tracker.label_width": number("(0, inf)", 0.25),
    "tracker.frozen_stages": none_or(whole("[0, 4]", 1)),
    "tracker.freeze_stem": FLAG,
    "tracker.online.min_size": none_or(number("(0, inf)", 4.0)),
    "tracker.online.size_smoothing": number("[0, 1)", 0.5),
    "tracker.online.presence.half": number("(0, inf)", 0.4),
    "tracker.online.presence.slope": number("(0, inf)", 4.0),
    "tracker.online.presence.tracked": number("[0, 1]", 0.8),
    "tracker.online.presence.lost": number("[0, 1]", 0.1),
    "tracker.online.update_interval": whole("[1, inf)", 20),
    "tracker.online.update_threshold": SHARE,
    "tracker.online.memory": whole("[1, inf)", 50),
    "tracker.online.rate": SHARE,
    "tracker.online.hard_negative_rate": SHARE,
    "tracker.online.first_share": SHARE,
    "tracker.online.iterations.*": whole("[0, inf)", 2),
    "tracker.online.boxes": whole("[0, inf)", 9),
    "tracker.online.best": COUNT,
    "tracker.online.max_aspect": number("[1, inf)", 6.0),
    # Pruning and distillation
    "pruning.every": whole("[1, inf)", 10),
    "pruning.decay": FLAG,
    "pruning.regrow": FLAG,
    "pruning.whole_branches": FLAG,
    "pruning.layer_below": SHARE,
    "pruning.floor": SHARE,
    "pruning.round_to": or_word("auto", COUNT),
    "pruning.criterion.penalty.*": WEIGHT,
    "pruning.criterion.travel": number("(0, inf)", 2.0),
    "pruning.criterion.memory": number("[0, 1)", 0.95),
    "pruning.criterion.budget": WEIGHT,
    "pruning.criterion.crispness": WEIGHT,
    "distillation.outputs": WEIGHT,
    "distillation.features": WEIGHT,
    # Lightning's trainer. Weights in half or double precision are not what a checkpoint stores.
    "trainer.precision": choice("32-true", "bf16-mixed", "16-mixed"),
    "trainer.num_nodes": COUNT,
    "trainer.log_every_n_steps": COUNT,
    "trainer.num_sanity_val_steps": whole("[-1, inf)", 0),
    "trainer.enable_model_summary": FLAG,
    # Scoring
    "runner.devices": devices(),
    "show.frames": COUNT,
    "show.video": FLAG,
    "video.frames": none_or(COUNT),
    "video.fps": number("[0.001, 1000]", 25),
    "runner.workers": COUNT,
    "runner.lockstep": COUNT,
    "runner.ahead": whole("[0, inf)", 4),
}
STEPS = "set the steps of each stage, e.g. stages.child.steps=1000"
# Arguments of Lightning's trainer that this project sets itself, or that would end a stage before its last step. The
# values say what to do instead.
OTHER_PLACES = {
    "max_steps": STEPS,
    "min_steps": STEPS,
    "max_epochs": STEPS,
    "min_epochs": STEPS,
    "max_time": "set the steps of each stage, or stop the command and give it again later",
    "fast_dev_run": "set the steps of each stage, e.g. stages.child.steps=1",
    "overfit_batches": "set datamodule.samples_per_epoch",
    "limit_train_batches": "set datamodule.samples_per_epoch",
    "accumulate_grad_batches": "set datamodule.batch_size, the samples of an optimizer step over all devices, and "
    "datamodule.device_batch_size, the most that one device takes at once",
    "gradient_clip_val": "set tracker.recipe.clip",
    "gradient_clip_algorithm": "set tracker.recipe.clip, the largest norm",
    "callbacks": "set +callbacks.NAME._target_=CLASS",
    "logger": "choose logger=wandb, csv, tensorboard or none",
    "default_root_dir": "set paths.outputs",
    "use_distributed_sampler": "set nothing instead, as data modules share samples out between processes",
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Checks a whole configuration.

    Args:
        settings: the resolved configuration as plain data.

    Raises:
        UserError: a value is not allowed, or a training would have no batch.
        PruningError: the ratio is not in (0, 1].
    """
    for path, value in _nodes(settings):
        rule = next((rule for pattern, rule in RULES.items() if fnmatchcase(path, pattern)), None)
        if rule is not None and not rule.allows(value):
            raise UserError(f"{path}={as_written(value)} must be {rule.words}, e.g. {path}={as_written(rule.example)}")
    if "ratio" in settings:
        check_ratio(settings["ratio"])
    trainer, data = settings.get("trainer") or {}, settings.get("datamodule") or {}
    for name, remedy in OTHER_PLACES.items():
        if trainer.get(name) is not None:
            raise UserError(f"trainer.{name}={as_written(trainer[name])} has no place here; leave it out, and {remedy}")
    samples, batch = data.get("samples_per_epoch"), data.get("batch_size")
    if samples is not None and batch is not None and samples < batch:
        raise UserError(
            f"datamodule.samples_per_epoch={samples} is less than one batch of datamodule.batch_size={batch}, so "
            f"nothing would be trained; set datamodule.batch_size={samples} or less"
        )


def _nodes(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields all values with their dotted paths."""
    for key, value in settings.items():
        if str(key).startswith("_"):  # a key of Hydra, e.g. _target_
            continue
        at = f"{path}.{key}" if path else str(key)
        yield at, value
        if isinstance(value, Mapping):
            yield from _nodes(value, at)
