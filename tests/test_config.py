"""Configuration: every group composes, every key is read, and comments match the files."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, OmegaConf

from evaluation.command_line.unread_keys import describe_unread_key
from tests.conftest import CONF
from trackers.checkpoints.checkpoint import build_tracker

ROOT = CONF.parent


def files_of(group: str) -> list[str]:
    """Returns the choices of a group: its files without the one that the others share."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "common")


RECIPES = ("ostrack_got10k", "ostrack_ep300", "stark_stage1", "stark_stage2", "superdimp", "icassp2023", "stability")
CHOICES = [
    *(["tracker=ostrack", f"scale={scale}"] for scale in ("tiny", "full")),
    *(
        [f"tracker={tracker}", "scale=full"]
        for tracker in ("ostrack_384", "stark", "stark_st50", "stark_mini", "dimp", "prdimp18")
    ),
    *([f"tracker={tracker}", "scale=tiny"] for tracker in ("stark", "dimp")),
    *([f"tracker={tracker}", "experiment=compact"] for tracker in ("ostrack", "stark", "dimp")),
    *(
        [f"{group}={choice}"]
        for group in ("datamodule", "benchmark", "pruning", "distillation", "logger", "trainer")
        for choice in files_of(group)
    ),
    ["run=miniature"],
    ["fake_data=small"],
    ["experiment=demo"],
    ["experiment=tune"],
    *([f"experiment={name}", "checkpoint=a"] for name in RECIPES),
]
SCRIPTS = [("train", []), ("prune", ["checkpoint=a", "ratio=0.5"]), ("eval", ["checkpoint=a"])]
SHARED = {"scale", "datamodule", "pruning", "distillation", "logger", "trainer"}
CHOSEN = {
    "train": SHARED | {"tracker", "experiment", "checkpoint", "run"},
    "prune": {"scale", "pruning", "distillation"},  # the other groups are those of train
    "eval": {"benchmark", "fake_data"},
}
READ_BY_CODE = "\n".join(p.read_text() for p in (*ROOT.glob("*.py"), *(ROOT / "evaluation").rglob("*.py")))
READ_BY_CONF = "\n".join(p.read_text() for p in CONF.rglob("*.yaml"))


def composed(script: str, overrides: list[str]) -> DictConfig:
    """Returns the configuration of a script, "train", "prune" or "eval"."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, overrides)


def compositions() -> Iterator[tuple[str, list[str]]]:
    """Yields each script with the overrides that it needs, alone and with each of `CHOICES` that it takes."""
    for script, required in SCRIPTS:
        yield script, required
        for choice in CHOICES:
            if {c.split("=")[0] for c in choice} <= CHOSEN[script]:
                yield script, required + choice


@pytest.mark.parametrize(("script", "overrides"), list(compositions()), ids=str)
def test_every_key_is_read(script, overrides):
    cfg = composed(script, overrides)
    unread = [path for path in _leaves(cfg) if not _is_read(cfg, path)]
    assert not unread
    assert not describe_unread_key(script, cfg)  # the check that commands do


def _leaves(node: DictConfig, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the path of every key below `node` whose value is not a mapping, without Hydra's own keys."""
    for key, value in OmegaConf.to_container(node, resolve=False).items() if isinstance(node, DictConfig) else ():
        if isinstance(value, dict) and value:
            yield from _leaves(node[key], (*at, key))
        elif key not in ("_target_", "_partial_", "_convert_"):
            yield (*at, key)


def _is_read(cfg: DictConfig, path: tuple[str, ...]) -> bool:
    """Returns whether the constructor of a node above a key, an interpolation or the code of jobs reads the key."""
    for depth in range(len(path) - 1, 0, -1):
        node = OmegaConf.select(cfg, ".".join(path[:depth]))
        if isinstance(node, DictConfig) and "_target_" in node:
            return path[depth] in _arguments(OmegaConf.to_container(node, resolve=False)["_target_"])
    return _is_read_by_name(path)


@cache
def _is_read_by_name(path: tuple[str, ...]) -> bool:
    """Returns whether an interpolation or the code of jobs reads a key."""
    dotted = ".".join(path)
    if re.search(rf"\$\{{{re.escape(dotted)}\}}", READ_BY_CONF):
        return True
    # Code reads cfg.stages.parent.steps, or settings.steps after settings = cfg.stages[stage].
    readers = ["cfg." + dotted, *(f"{name}.{path[-1]}" for name in _names_of_entries(path[0]))]
    return any(re.search(rf"\b{re.escape(reader)}\b", READ_BY_CODE) for reader in readers)


def _names_of_entries(section: str) -> set[str]:
    """Returns the names that the code gives to one entry of a section, e.g. settings = cfg.stages[stage]."""
    return set(re.findall(rf"\b(\w+) = (?:self\.)?cfg\.{section}\[", READ_BY_CODE))


@cache
def _arguments(target: str) -> set[str]:
    """Returns the names of the arguments of a function, or of a class and its bases, which get them by `**options`."""
    found = get_object(target)
    classes = inspect.getmro(found) if inspect.isclass(found) else [found]
    return {name for c in classes if c is not object for name in inspect.signature(c).parameters}


def test_keys_that_nothing_reads_are_found():
    cfg = composed(
        "train", ["+unread.key=1", "+paths.elsewhere=x", "+tracker.recipe.momentum=0.9", "+stages.child.rate=1"]
    )
    assert [p for p in _leaves(cfg) if not _is_read(cfg, p)] == [
        ("paths", "elsewhere"),
        ("tracker", "recipe", "momentum"),
        ("stages", "child", "rate"),
        ("unread", "key"),
    ]


# Comments


def defaults_of(script: str) -> dict[str, str]:
    """Returns the comment behind each group in the defaults list of a script; it may go on in the next lines."""
    comments, group = {}, ""
    for line in (CONF / f"{script}.yaml").read_text().partition("defaults:\n")[2].splitlines():
        if entry := re.fullmatch(r"  - (?:optional )?([\w/]+)(?:@\w+)?: \S+(?: # (.*))?", line):
            group = entry[1]
            comments[group] = entry[2] or ""
        elif more := re.fullmatch(r"     +# (.*)", line):
            comments[group] += " " + more[1]
        elif not line.startswith("  - "):
            break
    return comments


@pytest.mark.parametrize("script", ["train", "prune", "eval"])
def test_comments_list_every_choice_of_a_group(script):
    comments = defaults_of(script)
    assert {"paths", "benchmark", "hydra"} <= comments.keys()
    for group, comment in comments.items():
        assert comment, f"conf/{script}.yaml: {group} has no comment"
        if " | " in comment:
            choices = comment.rpartition(": ")[2].split(" | ")
            assert sorted(choices) == files_of(group), f"conf/{script}.yaml: the comment of {group}"
        elif len(files_of(group)) > 1 and "scale" not in group:  # tracker/scale is chosen by tracker and scale
            assert f"see conf/{group}/" in comment, f"conf/{script}.yaml: the comment of {group} lists no choices"


def test_every_file_starts_with_a_sentence():
    """The first line stands alone: the tables of the documentation show its first sentence."""
    for path in CONF.rglob("*.yaml"):
        first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
        sentence = re.split(r"(?<=\.) ", first, maxsplit=1)[0]
        assert re.fullmatch(r"# [A-Z]\w+s,? .*(\.|: python .*)", sentence), f"{path}: {first}"


def test_only_paths_hold_paths():
    for path in CONF.rglob("*.yaml"):
        if path.parent.name != "paths":
            assert not re.search(r":\s+[\"']?(/|~|\./|\.\./)", path.read_text()), path


@pytest.mark.parametrize("tracker", sorted(p.stem for p in (Path(CONF) / "tracker").glob("*.yaml")))
def test_full_scale_does_not_depart_from_the_original(tracker):
    cfg = composed("train", [f"tracker={tracker}", "scale=full"])
    with torch.device("meta"):
        built = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    assert not any(built.departures_from_original().values())


@pytest.mark.parametrize("tracker", ["ostrack", "stark", "dimp"])
def test_compact_scale_departs_from_the_original_in_every_way_that_it_names(tracker):
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
    specific = {  # keys that a scale may have alone
        ("recipe", "schedule"),
        ("recipe", "rates"),
        ("classifier", "optimiser"),
        ("online", "first"),
        ("online", "presence"),
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
        return {k for k in keys if k[:2] not in specific and k[:1] not in specific}

    assert shared(small) == shared(full)
