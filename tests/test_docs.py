"""The documentation: commands compose, Python blocks run, the tables of conf/ are complete, links lead somewhere."""

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from markdown_it import MarkdownIt
from omegaconf import OmegaConf

import datamodules.readers
import pruning.criteria
import trackers
from datamodules.errors import DataError
from evaluation.command_line.arguments import with_checkpoint_of_opencv
from evaluation.command_line.boxes import with_brackets
from pruning.gates import Gates
from tests.conftest import CONF, results

ROOT = CONF.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "weights/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SCRIPTS = {"train.py", "prune.py", "eval.py"}
MISSING = set() if importlib.util.find_spec("ray") else {"hydra/launcher=ray"}
TOOLS = {"vot", "tensorboard", "apt-get", "git", ".", "cd", "mkdocs"}  # their own manuals say what they do


def fences(page: Path, language: str) -> Iterator[str]:
    """The blocks of a language in a page, also inside of lists and notes."""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence" and token.info.split(" ")[0] == language:
            yield token.content


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in shell blocks, and of each `python …` command in inline code."""
    variables: dict[str, str] = {}
    for block in fences(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line.replace("…", "PLACEHOLDER"), comments=True)
            if len(words) == 1 and (assigned := re.fullmatch(r"(\w+)=(.*)", words[0])):
                variables[assigned[1]] = assigned[2]
            elif words:
                yield words
    for code in re.findall(r"`(python \w+\.py [^`]+)`", page.read_text()):
        yield shlex.split(code.replace("…", "PLACEHOLDER"))


def script_calls() -> dict[tuple[str, ...], Path]:
    """Every call of a script in the documentation, and a page that has it."""
    found = {}
    for page in PAGES:
        for words in commands(page):
            start = next((i for i, word in enumerate(words) if word in SCRIPTS), 0)
            if words[0] == "torchrun" or (words[0] == "python" and start == 1):
                found[tuple(map(with_brackets, words[start:]))] = page
    return found


def points(overrides: list[str]) -> Iterator[list[str]]:
    """The points of a sweep that differ in more than a number: every choice of every group, once."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [o for o in parsed if o.is_sweep_override()]
    plain = [o.input_line for o in parsed if o not in swept]
    values = [[f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] for o in swept]
    for i in range(max((len(v) for v in values if is_choice(v[0])), default=1)):
        yield [*plain, *(v[i % len(v)] for v in values)]


def is_choice(override: str) -> bool:
    """Whether an override chooses from a group; else it sets a key."""
    return (CONF / override.split("=")[0]).is_dir()


def without_value(script: str, overrides: list[str]) -> set[str]:
    """The keys that a call of a script has to set and does not."""
    chosen = [
        f"{group}/{o.split('=')[1]}" for group in ("experiment", "run") for o in overrides if o.startswith(f"{group}=")
    ]
    files = [*(["job"] if script != "eval" else []), script, *chosen]
    keys = {key: value for file in files for key, value in yaml.safe_load((CONF / f"{file}.yaml").read_text()).items()}
    return {key for key, value in keys.items() if value == "???"} - {o.split("=")[0] for o in overrides}


@pytest.mark.attack
def test_every_command_composes():
    """Calls of the same choices are composed at once: what they set beside that must exist in any case."""
    merged: dict[tuple[str, frozenset[str]], dict[str, str]] = {}
    for call, page in script_calls().items():
        script = call[0].removesuffix(".py")
        overrides = with_checkpoint_of_opencv(script, [word for word in call[1:] if "=" in word])
        place = f"{page.relative_to(ROOT)}: python {shlex.join(call)}"
        assert "--cfg" in call or not (missing := without_value(script, overrides)), f"{place}: no value for {missing}"
        swept = any(o.is_sweep_override() for o in OverridesParser.create().parse_overrides(overrides))
        assert "-m" in call or not swept, f"{place}: a sweep needs -m"
        if MISSING & {*overrides} or "tracker=siamese" in overrides:
            continue
        for point in points(overrides):
            same = merged.setdefault((script, frozenset(filter(is_choice, point))), {})
            same |= {o: place for o in point if not is_choice(o)}
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        for (script, choices), keys in merged.items():
            try:
                compose(script, [*choices, *keys])
            except Exception as error:
                raise AssertionError(f"one of {sorted({*keys.values()})}: {error}") from error


def test_every_other_command_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, programs = project["optional-dependencies"], project["scripts"]
    for page in PAGES:
        for words in commands(page):
            known = words[0] in TOOLS
            if words[0] == "make":
                known = all(w in targets for w in words[1:] if "=" not in w)
            elif words[:2] == ["python", "-m"]:
                known = importlib.util.find_spec(words[2]) is not None
            elif words[0] == "torchrun":
                known = bool(SCRIPTS & {*words})
            elif words[0] == "python":
                known = (ROOT / words[1]).is_file()
            elif words[:2] == ["pip", "install"]:
                known = all(extra in extras for w in words for extra in re.findall(r"\[([\w,]+)\]", w))
            elif words[0] == "wandb":
                known = wandb_knows(words)
            elif words[0].startswith("lwt-"):
                known = words[0] in programs
            elif words[:2] == ["pip", "wheel"]:
                known = True
            assert known, f"{page.relative_to(ROOT)}: {shlex.join(words)}"


def wandb_knows(words: list[str]) -> bool:
    """Whether the installed wandb has the command with these options."""
    from wandb.cli.cli import cli

    command = cli
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    options = {option for parameter in command.params for option in parameter.opts}
    return command is not cli and all(word in options for word in words if word.startswith("-"))


@pytest.mark.attack
def test_the_commands_on_video_run(run, tmp_path, monkeypatch):
    write_video(tmp_path / "walk.mp4")
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    monkeypatch.chdir(tmp_path)
    calls = [words[2:] for words in commands(ROOT / "docs" / "video.md")]
    assert len(calls) == 3
    for i, overrides in enumerate(calls):
        run("eval", *overrides, f"hydra.run.dir={tmp_path / str(i)}")
    assert [len(list((tmp_path / str(i)).rglob("boxes/*.csv"))) for i in range(3)] == [1, 2, 2]
    assert [len(list((tmp_path / str(i)).rglob("video.mp4"))) for i in range(3)] == [1, 1, 1]


# Python blocks


def write_video(path: Path) -> None:
    """A square that moves over noise, 160 x 120 pixels, 6 frames."""
    rng = np.random.default_rng(0)
    backdrop = rng.integers(0, 255, (120, 160, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    for i in range(6):
        frame = backdrop.copy()
        frame[30 : 30 + 24, 40 + 2 * i : 40 + 2 * i + 32] = (40, 200, 90)
        writer.write(frame)
    writer.release()


def examples(page: Path) -> list[str]:
    """The Python blocks of a page, without the worked example, which has a test of its own."""
    return [block for block in fences(page, "python") if '"""A minimal Siamese tracker' not in block]


@pytest.mark.parametrize("page", list(filter(examples, PAGES)), ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    blocks = examples(page)
    write_video(tmp_path / "walk.mp4")
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    (tmp_path / "child.safetensors").symlink_to(ROOT / "weights" / "ostrack_tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "docs"}
    torch.manual_seed(0)
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)


# The worked example


@pytest.fixture
def write_files(tmp_path, monkeypatch) -> Iterator[Callable[..., Path]]:
    """`write_files("adding-a-tracker.md", trackers)` writes the files of a page where Python and Hydra find them.

    It returns the folder of the configuration. New modules belong to the package.
    """
    before = {*sys.modules}

    def write(page: str, package: ModuleType) -> Path:
        text = (ROOT / "docs" / page).read_text()
        for name, content in re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', text, re.DOTALL):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        own = tmp_path / package.__name__.replace(".", "/")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(own)])
        return tmp_path / "conf"

    yield write
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            parent, _, child = name.rpartition(".")
            del sys.modules[name]
            vars(sys.modules[parent]).pop(child, None)


@pytest.mark.attack
def test_the_worked_example_is_trained_pruned_loaded_and_tracks(write_files, run):
    conf = write_files("adding-a-tracker.md", trackers)
    outputs = run("train", f"hydra.searchpath=[file://{conf}]", "tracker=siamese", "ratio=0.5")
    (result,) = results(outputs)
    assert result["family"] == "CNN"
    assert 0.4 < result["params"] / result["parent"]["params"] <= 0.5
    (child,) = outputs.rglob("checkpoint.safetensors")
    tracker = trackers.load_tracker(child)
    image = np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)
    tracker.init(image, (30, 20, 16, 16))
    box, score = tracker.update(image)
    assert np.isfinite(box).all()
    assert 0 <= score <= 1
    run("prune", f"checkpoint={child}", "ratio=0.5", "pruning=magnitude")
    smallest = min(results(outputs), key=lambda result: result["params"])
    assert smallest["params"] <= 0.5 * result["params"]


@pytest.mark.attack
def test_a_criterion_of_ones_own_prunes(write_files, run, small_checkpoint):
    conf = write_files("pruning.md", pruning.criteria)
    call = ("ratio=0.5", "pruning=geometric_median", f"hydra.searchpath=[file://{conf}]")
    (result,) = results(run("prune", f"checkpoint={small_checkpoint}", *call))
    assert result["method"] == "geometric_median"
    assert result["ratio_achieved"] <= 0.5


def test_a_criterion_of_ones_own_removes_what_is_redundant(write_files):
    write_files("pruning.md", pruning.criteria)
    network = torch.nn.Linear(3, 5, bias=False)
    network.weight.data = torch.tensor([[1.0, 0, 0], [1.0, 0, 0.01], [0, 9.0, 0], [0, 0, -9.0], [1.0, 0, -0.01]])
    gates = Gates(network, [pruning.Group("out", "mlp", 5, (pruning.Slice("weight", 0, gated=True),))])
    scores = get_object("pruning.criteria.geometric_median.GeometricMedian")()(gates)["out"]
    assert sorted(scores.argsort()[:3].tolist()) == [0, 1, 4]
    torch.testing.assert_close(scores[0], (network.weight - network.weight[0]).norm(dim=1).sum())


@pytest.fixture
def corners(tmp_path) -> Path:
    """The folder of a data set in the format of the example, with a video in each split."""
    for split, seed in (("train", 0), ("val", 1)):
        folder = tmp_path / "data" / "corners" / split / "walk"
        folder.mkdir(parents=True)
        pictures = np.random.default_rng(seed).integers(0, 255, (24, 60, 80, 3), np.uint8)
        for i, picture in enumerate(pictures):
            cv2.imwrite(str(folder / f"{i + 1}.jpg"), picture)
        lines = "".join(f"{10 + i},20,{26 + i},32\n" for i in range(len(pictures)))
        folder.with_suffix(".csv").write_text(lines)
    return tmp_path / "data"


def test_a_data_set_of_ones_own_is_read(write_files, corners):
    write_files("data.md", datamodules.readers)
    read = get_object("datamodules.readers.corners.read_corners")
    table = read(corners / "corners", "val")
    assert table[0].boxes[:2].tolist() == [[10, 20, 16, 12], [11, 20, 16, 12]]
    assert len(table[0]) == 24
    with pytest.raises(DataError, match=r"holds no file such as walk\.csv"):
        read(corners, "val")


@pytest.mark.attack
def test_a_data_set_of_ones_own_is_trained_on_and_scored(write_files, corners, run):
    conf = write_files("data.md", datamodules.readers)
    call = (f"paths.data={corners}", "datamodule=corners", "benchmark=corners", f"hydra.searchpath=[file://{conf}]")
    (result,) = results(run("train", "ratio=1", *call))
    assert (result["metrics"]["corners"]["sequences"], result["metrics"]["corners"]["frames"]) == (1, 23)


# Tables and texts


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_have_every_group_and_every_choice(hooks):
    table, choices = hooks.groups_table(), hooks.choices_tables()
    assert hooks.DECIDES.keys() == hooks.groups().keys()
    for folder in (path for path in CONF.iterdir() if path.is_dir() and path.name != "recipe"):
        row = next(line for line in table.splitlines() if re.match(rf"\| \[?`{folder.name}`", line))
        files = {file.stem for file in folder.glob("*.yaml")} - {"common"}
        assert set(re.findall(r"`([\w-]+)`", row.split("|")[2])) == files
        if len(files) > 1:
            section = choices.split(f"### {folder.name}\n")[1].split("###")[0]
            rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section, re.MULTILINE))
            assert rows.keys() == files
            assert all(rows.values()), f"conf/{folder.name}: a file starts with no comment"


def test_the_tables_are_on_the_page(hooks):
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert hooks.GROUPS in page
    assert hooks.CHOICES in page


def test_the_methods_of_pruning_are_explained():
    page = (ROOT / "docs" / "pruning.md").read_text()
    methods = {file.stem for file in (CONF / "pruning").glob("*.yaml")} - {"common"}
    assert methods <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    shared = OmegaConf.load(CONF / "pruning" / "common.yaml")
    keys = {key for key in shared if key not in ("_target_", "ratio_of", "device")}
    assert keys <= set(re.findall(r"`(\w+)`", page.split("## Settings of all methods")[1]))


def test_the_benchmarks_are_explained():
    text = (ROOT / "docs" / "scoring.md").read_text()
    choices = {file.stem for file in (CONF / "benchmark").glob("*.yaml")} - {"common", "mixed", "scenes"}
    assert choices <= set(re.findall(r"`(\w+)`", text))


def test_the_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    pictures = [p for p in (ROOT / "docs").rglob("*") if p.suffix in (".jpg", ".png", ".svg", ".webp")]
    assert pictures
    assert all(p.stat().st_size < 300_000 for p in pictures)


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"(?:\]\(|src=\")([^)\"\s]+)", page.read_text()):
            path, _, anchor = target.partition("#")
            if ":" in path:
                continue
            place = (page.parent / path).resolve() if path else page
            generated = {"weights.md", "benchmarks.md", "contributing.md", "changelog.md"}
            assert place.exists() or place.name in generated, f"{page.relative_to(ROOT)}: {target}"
            if anchor and place.suffix == ".md" and place.exists():
                assert anchor in anchors(place), f"{page.relative_to(ROOT)}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_reference_names_what_exists():
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for path, options in re.findall(r"^::: (\S+)\n {4}options: (.*)$", page.read_text(), re.MULTILINE):
            found = get_object(path)
            names = yaml.safe_load(options).get("members") or []
            assert not [name for name in names if not hasattr(found, name)], f"{page.name}: {path}"


def test_the_menu_has_every_page():
    loader = type("Loader", (yaml.SafeLoader,), {})
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(), loader)["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(menu)))
    assert {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} <= listed


def test_the_citation_is_valid():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", version)
    assert "2211.13769" in str(cited["references"])
