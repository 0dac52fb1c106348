"""Hostile files: each ends with one error that names its fault. No code runs, and memory and time are bounded."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.trackers.checkpoints.hostile_files import CANARY, HOSTILE, RESOLVED, Honest, zipped
from trackers import load_checkpoint, load_tracker
from trackers.checkpoints.reading import read_header
from trackers.errors import CheckpointError, TrackerError


@pytest.fixture(scope="module")
def honest(small_checkpoint):
    return Honest.of(small_checkpoint)


@pytest.fixture
def at(tmp_path, monkeypatch):
    """The path of a hostile file; the process is in its folder, where a canary would appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "file.safetensors"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(at, honest, name):
    make, words = HOSTILE[name]
    make(at, honest)
    started = time.process_time()
    with pytest.raises(TrackerError) as error:
        load_tracker(at)
    assert time.process_time() - started < 10
    message = str(error.value)
    assert words in message
    assert len(message) < 3_000
    assert message.replace("\n", "").isprintable()
    assert not Path(CANARY).exists()


def test_nothing_of_a_hostile_header_reaches_a_configuration(at, honest):
    names = [name for name in HOSTILE if name.startswith("recipe interpolation") or name.startswith("recipe class")]
    assert len(names) > 30
    for name in names:
        HOSTILE[name][0](at, honest)
        with pytest.raises(CheckpointError):
            read_header(at)


def test_metrics_and_configuration_are_data(at, honest):
    record = json.dumps(
        {"a": RESOLVED, RESOLVED: [[RESOLVED]], "b": {"_target_": "os.system", "command": "touch canary"}}
    )
    save_file(honest.weights, at, honest.header | {"metrics": record, "config": record})
    checkpoint = load_checkpoint(at)
    assert checkpoint.config == checkpoint.metrics == json.loads(record)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("weights", ["other shapes", "nan"])
def test_a_hostile_backbone_for_a_training(at, honest, weights):
    net = {name.removeprefix("backbone."): w for name, w in honest.weights.items() if name.startswith("backbone.")}
    net["patch_embed.proj.weight"] = torch.full((24, 3, 16, 16), float("nan"))
    torch.save({"model": net if weights == "nan" else {"patch_embed.proj.weight": torch.ones(1)}}, at)
    with pytest.raises(TrackerError):
        load_checkpoint(at, honest.recipe)


# Things that are no files


def folder(path):
    path.mkdir()


def link_to(target):
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (folder, "a folder at"),
        (os.mkfifo, "no checkpoint at"),
        (link_to("/dev/zero"), "no checkpoint at"),
        (link_to("file.safetensors"), "no checkpoint at"),
        (link_to("nowhere"), "no checkpoint at"),
        (lambda path: None, "no checkpoint at"),
    ],
    ids=["folder", "fifo", "device", "circle of links", "dangling link", "missing"],
)
def test_what_is_no_file_is_not_opened(at, make, words):
    make(at)
    with pytest.raises(CheckpointError, match=words):
        load_tracker(at)


def test_a_wrong_path_gets_the_file_that_was_probably_meant(tmp_path):
    (tmp_path / "checkpoint.safetensors").touch()
    for wrong in (tmp_path, tmp_path / "checkpoint.safetensor"):
        with pytest.raises(CheckpointError, match=r"; did you mean .*/checkpoint\.safetensors\?$"):
            load_tracker(wrong)
    with pytest.raises(CheckpointError, match=r"; give a file of train\.py"):
        load_tracker(tmp_path / "other.pth")


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "nul\0"])
def test_a_name_that_cannot_be(at, name):
    with pytest.raises(CheckpointError):
        load_tracker(at.parent / name)


def test_a_file_without_the_right_to_read_it(at, honest):
    save_file(honest.weights, at, honest.header)
    at.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the rights of files do not bind root
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            load_tracker(at)
    finally:
        os.seteuid(user)


# Through the commands


@pytest.mark.parametrize("script", ["train", "prune", "eval"])
@pytest.mark.parametrize(
    "name",
    [
        "recipe interpolation that runs a command",
        "pickle that runs a command, zip",
        *(
            pytest.param(name, marks=pytest.mark.attack)
            for name in (
                "recipe interpolation as a key",
                "recipe class 'os.system'",
                "recipe of 10,000 levels",
                "weights of nan",
                "pickle of a key of 2^60 tuples, legacy",
            )
        ),
    ],
)
def test_the_commands_refuse_it_in_one_line(run, capsys, at, honest, script, name):
    HOSTILE[name][0](at, honest)
    overrides = [f"checkpoint={at}", *(["ratio=0.5"] if script != "eval" else [])]
    with pytest.raises(SystemExit) as stop:
        run(script, *overrides)
    told = capsys.readouterr().err + str(stop.value.code)
    assert stop.value.code not in (0, None)
    assert str(at) in told
    assert "Traceback" not in told
    assert not list(Path().rglob(CANARY))
    assert not list(Path().rglob("result.json"))


# Memory, in a process of its own

LOADER = """
import json, resource, sys, time
from pathlib import Path
from trackers.errors import TrackerError
from trackers import load_tracker
load_tracker(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**30, resource.RLIM_INFINITY))
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.process_time()
    try:
        load_tracker(path)
        outcome = "loaded"
    except TrackerError:
        outcome = "refused"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([path.name, outcome, time.process_time() - started, used]), flush=True)
"""


@pytest.mark.attack
def test_no_file_takes_much_memory_or_time(tmp_path, honest, small_checkpoint):
    names = list(HOSTILE)
    files = tmp_path / "files"
    files.mkdir()
    for i, name in enumerate(names):
        HOSTILE[name][0](files / f"{i:04}", honest)
    command = [sys.executable, "-c", LOADER, str(files), str(small_checkpoint)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(lines) == len(names)
    for file, outcome, seconds, kilobytes in lines:
        assert (outcome, seconds < 5, kilobytes < 400_000) == ("refused", True, True), (
            names[int(file)],
            outcome,
            seconds,
            kilobytes,
        )
    assert not list(tmp_path.rglob(CANARY))


@pytest.mark.attack
def test_a_large_honest_file_needs_twice_its_size(tmp_path):
    """An honest file of 200 MB is read within the memory of its weights."""
    path = tmp_path / "large.pth"
    torch.save({"net": {f"w{i}": torch.ones(2**20) for i in range(50)}}, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="no known tracker"):
        load_tracker(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2.2 * path.stat().st_size / 1024


def test_an_honest_archive_of_the_same_making_is_read(at):
    """The archives above fail for their faults, and not because of how the tests write them."""
    at.write_bytes(zipped(b"}Vnet\n}s."))
    with pytest.raises(CheckpointError, match="no known tracker"):
        load_tracker(at)
