"""What a command says last, and the command that goes on."""

import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from evaluation.files import write_json
from evaluation.processes import shell_command
from evaluation.processes.command_state import command_state
from evaluation.processes.exit_message import with_exit_message
from evaluation.processes.shell_command import folder_override, resume_command, shell_line
from evaluation.study.stage import Stage, ensure, position
from evaluation.study.sweep_callbacks import FailureCallback


@pytest.fixture(autouse=True)
def command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "job.tracker=a b", "force=true", "hydra.sweep.dir=old"])
    command_state.begin_command()
    yield
    command_state.begin_command()


@pytest.mark.parametrize(
    ("folder", "override"),
    [
        ("outputs/train/2026-01-31_12-00-00", "hydra.run.dir=outputs/train/2026-01-31_12-00-00"),
        ("my, it's=here", r"hydra.run.dir='my, it\'s=here'"),
    ],
)
def test_a_folder_is_quoted_where_hydra_needs_it(folder, override):
    assert folder_override("run", folder) == override


@pytest.mark.parametrize("folder", ["/home/j\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", r"a\b", "a b\\", r"a\'b"])
def test_hydra_reads_a_quoted_folder_as_it_is(folder):
    override = OverridesParser.create().parse_override(folder_override("run", folder))
    assert override.value() == folder


def test_the_command_goes_on_in_its_folder_and_does_not_begin_again():
    assert command_state.resume_command() == "python train.py -m 'job.tracker=a b' hydra.sweep.dir=old"
    assert resume_command(sys.argv, "hydra.sweep.dir=b") == ("python train.py -m 'job.tracker=a b' hydra.sweep.dir=b")
    assert resume_command(["/usr/bin/lwt-eval", "checkpoint=a"]) == "lwt-eval checkpoint=a"
    assert resume_command(["eval.py", "force=1", "++force=True", "a.force=1"]) == "python eval.py a.force=1"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("ratio=1", "ratio=1"),
        ("a b", "'a b'"),
        ("paths.data='/my videos'", "\"paths.data='/my videos'\""),
        ("it's $5", "'it'\"'\"'s $5'"),
        ("", "''"),
    ],
)
def test_a_word_with_quotes_stays_readable_and_survives_a_shell(word, line):
    assert shell_line(["a", word]) == f"a {line}"
    assert shlex.split(shell_line(["a", word])) == ["a", word]


def test_a_launcher_is_part_of_the_command(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert resume_command(sys.argv).startswith("srun python train.py ")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    words = ["/usr/bin/python3", "/env/bin/torchrun", "--nproc_per_node=2", "train.py", "ratio=1"]
    monkeypatch.setattr(shell_command.Path, "read_text", lambda _: "\0".join(words) + "\0")
    started = resume_command(sys.argv, "hydra.run.dir=a")
    assert started == "torchrun --nproc_per_node=2 train.py ratio=1 hydra.run.dir=a"
    words[1:2] = ["-m", "torch.distributed.run"]
    assert resume_command(sys.argv).startswith("python -m torch.distributed.run --nproc_per_node=2 ")


def ended(work) -> SystemExit:
    with pytest.raises(SystemExit) as end:
        with_exit_message(work)()
    return end.value


def test_after_a_signal_a_command_says_where_it_stopped_and_closes_its_sweep(capfd):
    closed = []

    def work() -> None:
        command_state.folder, command_state.close = "hydra.sweep.dir=b", lambda: closed.append(True)
        command_state.begin_job(lambda: "0_a stopped in stage child")
        command_state.sweep = lambda: "2 finished jobs"
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert ended(work).code == 130
    assert signal.getsignal(signal.SIGINT) == before
    assert closed == [True]
    assert capfd.readouterr().err.splitlines() == [
        "interrupted; the same command continues where it stopped",
        "0_a stopped in stage child; 2 finished jobs",
        "to go on: python train.py -m 'job.tracker=a b' hydra.sweep.dir=b",
    ]


@pytest.mark.parametrize(("code", "lines"), [("error: no space", 3), (1, 0), (None, 0), (0, 0)])
@pytest.mark.parametrize("has_begun", [True, False])
def test_a_failure_has_last_words_if_there_is_something_to_go_on_with(capfd, code, lines, has_begun):
    def work() -> None:
        if has_begun:
            command_state.begin_job(lambda: "stopped in stage child")
        sys.exit(code)

    end = ended(work)
    told = capfd.readouterr().err.splitlines()
    if isinstance(code, str):
        assert len(end.code.splitlines()) == (lines if has_begun else 1)
        assert told == []
    else:
        assert end.code == code
        assert len(told) == (2 if has_begun and code else 0)


def test_other_processes_of_a_job_say_nothing(monkeypatch, capfd):
    monkeypatch.setenv("RANK", "1")
    assert ended(lambda: signal.raise_signal(signal.SIGTERM)).code == 143
    assert capfd.readouterr().err == ""


def test_a_position_names_the_stage_the_step_and_what_is_saved(tmp_path):
    parent = Stage("parent", {"a": 1}, lambda folder: None)
    child = Stage("child", {}, lambda folder: None, (parent,), lambda folder: "at step 3 of 9")
    assert position([parent, child], tmp_path) == "stopped in stage parent; saved: nothing of it yet"
    ensure(parent, tmp_path)
    assert position([parent, child], tmp_path) == "stopped in stage child; saved: nothing of it yet"
    (tmp_path / f"{child.key}.unfinished").mkdir()
    command_state.step = "at step 4 of 9"
    assert position([parent, child], tmp_path) == "stopped in stage child at step 4 of 9; saved: step 3 of 9"
    ensure(child, tmp_path)
    assert position([parent, child], tmp_path) == "stopped after the last stage"


def test_a_sweep_with_failures_ends_with_the_command_that_tries_only_these(tmp_path: Path):
    study = tmp_path / "it's mine"
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(study)}}})
    command_state.folder = folder_override("sweep", study)
    for name, status in (("0_a", "failed"), ("1_b", "finished")):
        write_json(study / name / "result.json", {"status": status, "error": "too small", "log": "a.log"})
    with pytest.raises(SystemExit) as end:
        FailureCallback().on_multirun_end(config)
    lines = end.value.code.splitlines()
    assert lines[0] == f"error: 1 of 2 jobs failed. The results of the others are in {study}:"
    assert lines[1] == "  0_a: too small"
    assert lines[-1].startswith("to try only the failed ones once more: python train.py -m 'job.tracker=a b' ")
    assert with_exit_message(lambda: None)() is None


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        ([("a", 1), ("b", 1), ("a", 0.1), ("a", 0.5)], [0, 3]),
        ([("b", 1), ("a", 0.5), ("a", 0.25)], [0, 1]),
        ([("a", None), ("b", None)], [0, 1]),
        ([("a", 1)], []),
    ],
)
def test_a_sweep_ends_with_the_command_that_shows_a_parent_and_its_largest_child(tmp_path: Path, capsys, jobs, shown):
    runtime = {"choices": {"benchmark": "synthetic"}}
    config = {"hydra": {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": []}, "runtime": runtime}}
    for i, (tracker, ratio) in enumerate(jobs):
        result = {"status": "finished", "tracker": tracker} | ({} if ratio is None else {"ratio": ratio})
        write_json(tmp_path / str(i) / "result.json", result)
        (tmp_path / str(i) / "checkpoint.safetensors").touch()
    FailureCallback().on_multirun_end(OmegaConf.create(config))
    told = capsys.readouterr().out.splitlines()[-1]
    assert [int(number) for number in re.findall(r"(\d+)/checkpoint\.safetensors", told)] == shown
