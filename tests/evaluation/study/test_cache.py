"""The command that lists the stages of a cache and deletes those that nothing needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from evaluation.study import cache as command
from evaluation.study.job_records import read_jobs, record_job
from evaluation.study.stage import Stage, ensure
from tests.conftest import CONF

Call = Callable[..., str]


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    """A cache with a parent, two children of it, and their two jobs."""
    folder = tmp_path / "cache" / "stages"
    parent = Stage("parent", {"lr": 1}, write)
    for number in (1, 2):
        child = Stage("child", {"ratio": number}, write, (parent,))
        job = tmp_path / f"job{number}"
        job.mkdir()
        record_job(folder, job, [parent.key, child.key])
        for stage in (parent, child):
            ensure(stage, folder)
    return folder


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(bytes(2000))


@pytest.fixture
def call(stages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Call:
    def called(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["cache", "--cache", str(stages.parent), *arguments])
        command.main()
        return capsys.readouterr().out

    return called


def kinds(stages: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in stages.iterdir() if path.is_dir())


def test_stages_are_listed_with_what_needs_them(call: Call, stages: Path, tmp_path: Path) -> None:
    told = call()
    assert told.count("finished") == 3
    assert "2." in told
    assert str(tmp_path / "job1") in told
    assert "job1 and 3 more" in told, "two jobs and two children need the parent"
    assert "of which nothing needs 0" in told


def test_nothing_is_deleted_that_a_job_needs(call: Call, stages: Path) -> None:
    call("prune", "--delete")
    assert kinds(stages) == ["child", "child", "parent"]


def test_stages_of_deleted_jobs_go_and_only_when_it_is_asked_for(call: Call, stages: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "job1")
    assert "would be deleted; add --delete" in call("prune")
    assert kinds(stages) == ["child", "child", "parent"]
    assert "deleted 2." in call("prune", "--delete")
    assert kinds(stages) == ["child", "parent"]
    assert [job.folder.name for job in read_jobs(stages)] == ["job2"]
    shutil.rmtree(tmp_path / "job2")
    call("prune", "--delete")
    assert kinds(stages) == []


def test_what_a_needed_stage_was_made_after_stays(call: Call, stages: Path, tmp_path: Path) -> None:
    child = next(key for job in read_jobs(stages) for key in job.stages if key.startswith("child"))
    shutil.rmtree(tmp_path / "job1")
    shutil.rmtree(tmp_path / "job2")
    (tmp_path / "job3").mkdir()
    record_job(stages, tmp_path / "job3", [child])
    call("prune", "--delete")
    assert kinds(stages) == ["child", "parent"]


def test_a_stage_that_a_process_works_on_stays(call: Call, stages: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        shutil.rmtree(tmp_path / f"job{number}")
    unfinished = stages / "sparsity-0123456789ab.unfinished"
    (unfinished / "scratch").mkdir(parents=True)
    with FileLock(stages / "sparsity-0123456789ab.lock"):
        assert "sparsity-0123456789ab.unfinished: 0 B, just now old: in use" in call("prune", "--delete")
    assert kinds(stages) == ["sparsity"]
    call("prune", "--delete")
    assert kinds(stages) == []


def test_a_job_that_begins_while_stages_are_deleted_keeps_its_own(
    call: Call, stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job notes its stages and finds one of them after the command has read the notes."""
    for number in (1, 2):
        shutil.rmtree(tmp_path / f"job{number}")
    keys = [path.name for path in stages.iterdir() if path.is_dir() and path.name.startswith("parent")]
    real, calls = command.read_jobs, []

    def begins_after_the_first_look(folder: Path) -> list:
        found = real(folder)
        if not calls:
            (tmp_path / "new").mkdir()
            record_job(stages, tmp_path / "new", keys)
        calls.append(1)
        return found

    monkeypatch.setattr(command, "read_jobs", begins_after_the_first_look)
    call("prune", "--delete")
    assert kinds(stages) == ["parent"]


def test_a_job_of_another_machine_may_exist_where_this_one_cannot_see_it(
    call: Call, stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        shutil.rmtree(tmp_path / f"job{number}")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    call("prune", "--delete")
    assert kinds(stages) == ["child", "child", "parent"]


def test_a_folder_that_a_job_renames_meanwhile_is_no_error(
    call: Call, stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command.read_record

    def renames(folder: Path) -> dict | None:
        record = real(folder)
        if folder.name.startswith("parent"):
            shutil.rmtree(folder)
        return record

    monkeypatch.setattr(command, "read_record", renames)
    assert "2 stages" in call()


def test_leftovers_and_old_stages_are_deleted(call: Call, stages: Path) -> None:
    (stages / ".parent-0.00ff.old").mkdir()
    (stages / "parent-000000000000").mkdir()
    (stages / "parent-000000000000" / "stage.json").write_text('{"seconds": 1}')  # of a version without hashes
    (stages.parent / "jobs" / "broken.json").write_text("{")
    call("prune", "--delete")
    assert kinds(stages) == ["child", "child", "parent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cache", "nowhere"], "error: nowhere has no folder `stages`"),
        (["list", "--delete"], "error: --delete is for prune"),
        (["pruen"], "invalid choice: 'pruen'"),
    ],
)
def test_bad_input_is_one_line(call: Call, capsys: pytest.CaptureFixture, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code
    assert words in f"{stop.value.code} {capsys.readouterr().err}"


@pytest.mark.slow
def test_it_is_a_command(stages: Path) -> None:
    given = [sys.executable, "-m", "evaluation.study.cache", "--cache", str(stages.parent)]
    done = subprocess.run(given, cwd=CONF.parent, capture_output=True, text=True, env=os.environ, check=True)
    assert "3 stages" in done.stdout
