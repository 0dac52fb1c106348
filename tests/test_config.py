"""Configuration: every group composes, every key is read, and nothing is written down twice."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, OmegaConf

from tests.conftest import CONF
from trackers.checkpoints.checkpoint import build_tracker

RECIPES = ("ostrack_got10k", "ostrack_ep300", "stark_stage1", "stark_stage2", "superdimp", "icassp2023", "stability")
CHOICES = [
    *(["tracker=ostrack", f"scale={scale}"] for scale in ("tiny", "full")),
    *(
        [f"tracker={tracker}", "scale=full"]
        for tracker in ("ostrack_384", "stark", "stark_st50", "stark_mini", "dimp", "prdimp18")
    ),
    *([f"tracker={tracker}", "scale=tiny"] for tracker in ("stark", "dimp")),
    *([f"tracker={tracker}", "experiment=compact"] for tracker in ("ostrack", "stark", "dimp")),
    *([f"datamodule={data}"] for data in ("synthetic", "got10k", "mixed", "folder")),
    *([f"benchmark={p.stem}"] for p in sorted((CONF / "benchmark").glob("*.yaml"))),
    *([f"pruning={p.stem}"] for p in sorted((CONF / "pruning").glob("*.yaml")) if p.stem != "common"),
    *([f"distillation={teacher}"] for teacher in ("none", "parent")),
    *([f"logger={logger}"] for logger in ("wandb", "csv", "tensorboard", "none")),
    ["trainer=ddp"],
    ["trainer=ddp_spawn"],
    ["experiment=demo"],
    ["experiment=tune"],
    *([f"experiment={name}", "checkpoint=a"] for name in RECIPES),
]
SCRIPTS = [("train", []), ("prune", ["checkpoint=a", "ratio=0.5"]), ("eval", ["checkpoint=a"])]
SHARED = {"scale", "datamodule", "pruning", "distillation", "logger", "trainer"}
CHOSEN = {
    "train": SHARED | {"tracker", "experiment", "checkpoint"},
    "prune": {"scale", "pruning", "distillation"},  # the other groups are those of train
    "eval": {"benchmark"},
}
READ_BY_CODE = "\n".join(p.read_text() for folder in ("evaluation", ".") for p in (CONF.parent / folder).glob("*.py"))
READ_BY_CONF = "\n".join(p.read_text() for p in CONF.rglob("*.yaml"))


def composed(script: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, overrides)


def compositions() -> Iterator[tuple[str, list[str]]]:
    """Each script as it is, and with every choice that it has."""
    for script, given in SCRIPTS:
        yield script, given
        for choice in CHOICES:
            if {c.split("=")[0] for c in choice} <= CHOSEN[script]:
                yield script, given + choice


@pytest.mark.parametrize(("script", "overrides"), list(compositions()), ids=str)
def test_every_key_is_read(script, overrides):
    cfg = composed(script, overrides)
    unread = [path for path in _leaves(cfg) if not _is_read(cfg, path)]
    assert not unread


def _leaves(node: DictConfig, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in OmegaConf.to_container(node, resolve=False).items() if isinstance(node, DictConfig) else ():
        if isinstance(value, dict) and value:
            yield from _leaves(node[key], (*at, key))
        elif key not in ("_target_", "_partial_", "_convert_"):
            yield (*at, key)


def _is_read(cfg: DictConfig, path: tuple[str, ...]) -> bool:
    """By the constructor of a node above it, by an interpolation, or by the code that runs jobs."""
    for depth in range(len(path) - 1, 0, -1):
        node = OmegaConf.select(cfg, ".".join(path[:depth]))
        if isinstance(node, DictConfig) and "_target_" in node:
            return path[depth] in _arguments(OmegaConf.to_container(node, resolve=False)["_target_"])
    dotted = ".".join(path)
    if re.search(rf"\$\{{{re.escape(dotted)}\}}", READ_BY_CONF) or f"cfg.{dotted}" in READ_BY_CODE:
        return True
    if path[0] == "stages":  # cfg.stages[name].steps
        return f"stage.{path[-1]}" in READ_BY_CODE
    return len(path) > 1 and f'"{path[0]}"' in READ_BY_CODE and f".{path[-1]}" in READ_BY_CODE


def _arguments(target: str) -> set[str]:
    """Names that a constructor takes, through `**options` also those of its bases; a mapping argument takes any."""
    found = get_object(target)
    classes = inspect.getmro(found) if inspect.isclass(found) else [found]
    return {name for c in classes if c is not object for name in inspect.signature(c).parameters}


def test_a_key_that_nothing_reads_is_found():
    cfg = composed("train", ["+unread.key=1", "+paths.elsewhere=x", "+tracker.recipe.momentum=0.9"])
    assert [p for p in _leaves(cfg) if not _is_read(cfg, p)] == [
        ("paths", "elsewhere"),
        ("tracker", "recipe", "momentum"),
        ("unread", "key"),
    ]


def test_only_paths_hold_paths():
    for path in CONF.rglob("*.yaml"):
        if path.parent.name != "paths":
            assert not re.search(r":\s+[\"']?(/|~|\./|\.\./)", path.read_text()), path


def test_the_readme_names_every_choice():
    readme = (CONF.parent / "README.md").read_text()
    for group in (
        "tracker",
        "scale",
        "datamodule",
        "benchmark",
        "runner",
        "pruning",
        "trainer",
        "distillation",
        "logger",
        "experiment",
    ):
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{group}` |"))
        options = {p.stem for p in (CONF / group).glob("*.yaml")} - {"common"}
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == options


@pytest.mark.parametrize("tracker", sorted(p.stem for p in (Path(CONF) / "tracker").glob("*.yaml")))
def test_full_scale_has_nothing_that_the_original_has_not(tracker):
    cfg = composed("train", [f"tracker={tracker}", "scale=full"])
    with torch.device("meta"):
        built = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    assert not any(built.departures_from_original().values())


@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_compact_scale_names_what_the_original_has_not(tracker):
    cfg = composed("train", [f"tracker={tracker}", "scale=compact"])
    assert all(build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).departures_from_original().values())


def test_targets_exist():
    for path in CONF.rglob("*.yaml"):
        for target in re.findall(r"_target_: ([\w.]+)", path.read_text()):
            assert get_object(target), f"{path}: {target}"
    assert get_class("trackers.ostrack.OSTrack")


@pytest.mark.parametrize("scale", ["tiny", "compact"])
@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_the_scales_of_a_tracker_set_the_same_keys(tracker, scale):
    small, full = (
        set(_leaves(OmegaConf.load(Path(CONF) / "tracker" / "scale" / f"{tracker}_{s}.yaml"))) for s in (scale, "full")
    )
    own = {
        ("recipe", "schedule"),
        ("recipe", "rates"),
        ("classifier", "optimiser"),
        ("online", "first"),
        ("vit",),
        ("elimination",),
        ("backbone",),
        ("transformer",),
        ("template", "compat"),
        ("search", "compat"),
        ("response",),
        ("expectation",),
    }

    def shared(keys: set) -> set:
        return {k for k in keys if k[:2] not in own and k[:1] not in own}

    assert shared(small) == shared(full)
