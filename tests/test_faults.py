"""Injected faults: a full disk, missing rights, killed processes, a dead W&B, a clock that jumps.

Each one ends with one clear line or goes on correctly, and leaves nothing half-written.
"""

import ctypes
import importlib
import itertools
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.readers import read_got10k
from evaluation.files import write_json
from evaluation.loggers import ending, wandb_runs
from evaluation.loggers.stage_logger import StageLogger
from evaluation.processes.user_errors import message_of
from evaluation.report.study_results import read_results
from evaluation.study import sweep_callbacks
from evaluation.study.resuming import AtomicCheckpointIO
from evaluation.tracking.result_files import read_track, save_track
from evaluation.tracking.runner import Runner, SequencesFailedError
from tests.conftest import CONF, SMALL_WORLD, results
from tests.offline_runs import OfflineRun, log_out
from tests.processes import is_alive
from trackers import load_checkpoint

pytestmark = pytest.mark.attack

NO_REPORT = "~hydra.callbacks.report"


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".hydra"]


# The disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Makes every file of this process end at `size` bytes, as on a full disk; the errors differ by number alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_checkpoint(path: Path, source: Path) -> None:
    load_checkpoint(source).save(path)


def save_training(path: Path, source: Path) -> None:
    AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, path)


def save_json(path: Path, source: Path) -> None:
    write_json(path, ["x" * 100_000])


@pytest.mark.parametrize("save", [save_checkpoint, save_training, save_json])
def test_a_full_disk_leaves_the_old_file_and_one_line_that_names_it(tmp_path, small_checkpoint, save):
    path = tmp_path / "a.file"
    path.write_text("old")
    with files_of_at_most(30_000), pytest.raises(OSError, match="File too large") as error:
        save(path, small_checkpoint)
    assert message_of(error.value).startswith(f"File too large: {path}; ")
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []
    save(path, small_checkpoint)
    assert path.stat().st_size > 30_000


def test_a_full_disk_leaves_no_boxes_without_times(tmp_path, got10k):
    sequence = read_got10k(got10k, "train")[0]
    boxes, seconds = np.ones((len(sequence), 4)), np.ones(len(sequence))
    with files_of_at_most(200), pytest.raises(OSError, match="File too large"):
        save_track(tmp_path, sequence, boxes, seconds)
    assert [path.name for path in tmp_path.iterdir()] == [f"{sequence.name}_time.txt"]
    save_track(tmp_path, sequence, boxes, seconds)
    assert (read_track(tmp_path, sequence)[0] == boxes).all()


def test_a_disk_that_fills_in_a_training_ends_it_with_one_line(run, fresh_cache, tmp_path, capsys):
    mine = (f"paths.cache={fresh_cache}", "resume_minutes=0")
    with files_of_at_most(60_000), pytest.raises(SystemExit) as stop:
        run("train", *mine)
    assert stop.value.code.startswith("error: File too large: ")
    assert "the same command continues" in stop.value.code
    assert "Traceback" not in capsys.readouterr().err
    assert leftovers(fresh_cache) == []
    assert results(tmp_path / "outputs") == []
    assert results(run("train", *mine))[0]["status"] == "finished"


def test_a_report_that_cannot_be_written_is_an_error(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/full/report.html")

    monkeypatch.setattr("evaluation.report.write_report", full)
    with pytest.raises(SystemExit, match=r"all jobs finished, but there is no report: No space left on device: /full"):
        run("train", "-m", "ratio=1")
    run("train", "-m", "ratio=1", "~hydra.callbacks.report")  # the next sweep in this process asks for no report


@pytest.mark.parametrize("text", [b"", b'{"status": "fini', b"[]", b"\x80"])
def test_a_damaged_result_is_a_failed_job(tmp_path, text):
    (tmp_path / "0_ratio1").mkdir()
    (tmp_path / "0_ratio1" / "result.json").write_bytes(text)
    (result,) = read_results(tmp_path)
    assert (result["status"], result["folder"]) == ("failed", "0_ratio1")
    assert "is damaged; delete it" in result["error"]


# Rights


MAY_READ_AND_WRITE_ALL = 0b110  # the bits of these capabilities in Linux
CAPABILITIES = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the interface, and this process


def drop_rights_of_root() -> None:
    """Makes this process obey the rights of files, also if root runs it."""
    system, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable twice
    assert system.capget(CAPABILITIES, sets) == 0
    for i in range(3):
        sets[i] &= ~MAY_READ_AND_WRITE_ALL
    assert system.capset(CAPABILITIES, sets) == 0


def score_without_rights_of_root(words: list[str], told: Path) -> None:
    """Runs eval.py in this process, which obeys the rights of files; what it says goes to a file."""
    drop_rights_of_root()
    with told.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    process._parent_process = None  # a command of its own, and not a job that a sweep has started
    sys.argv = ["eval.py", f"--config-path={CONF}", *words]
    importlib.import_module("eval").main()


@pytest.mark.parametrize("place", ["outputs", "cache", "checkpoint"])
def test_what_this_user_may_not_do_is_one_line(small_checkpoint, fresh_cache, tmp_path, place, spawned_quickly):
    checkpoint, outputs, forbidden = tmp_path / "mine.safetensors", tmp_path / "outputs", tmp_path / "forbidden"
    checkpoint.write_bytes(small_checkpoint.read_bytes())
    forbidden.mkdir(0o555)
    given = {"checkpoint": checkpoint, "paths.outputs": outputs, "paths.cache": fresh_cache}
    given |= {"outputs": {"paths.outputs": forbidden}, "cache": {"paths.cache": forbidden}, "checkpoint": {}}[place]
    if place == "checkpoint":
        checkpoint.chmod(0)
    words, said = [*(f"{key}={value}" for key, value in given.items()), *SMALL_WORLD], tmp_path / "said.txt"
    command = multiprocessing.get_context("spawn").Process(target=score_without_rights_of_root, args=(words, said))
    command.start()
    command.join()
    assert command.exitcode == 1
    told = said.read_text()
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "Permission denied" in line
    assert str(checkpoint if place == "checkpoint" else forbidden) in line
    assert list(forbidden.iterdir()) == []


# Killed processes


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "Killed"), (signal.SIGBUS, "shared memory"), (signal.SIGSEGV, "Segmentation fault")],
)
def test_a_loader_worker_that_is_killed_ends_the_training_with_one_line(run, monkeypatch, tmp_path, number, words):
    from trackers.ostrack import OSTrack

    honest = OSTrack.losses

    def kills(self, batch):
        worker = multiprocessing.active_children()[0].pid
        os.kill(worker, number)
        while is_alive(worker):  # a busy machine takes its time
            time.sleep(0.05)
        return honest(self, batch)

    monkeypatch.setattr(OSTrack, "losses", kills)
    with pytest.raises(SystemExit) as stop:
        run("train", "datamodule.workers=1", "seed=99")
    assert "DataLoader worker" in stop.value.code
    # PyTorch learns of the death from a signal or from a queue that stays empty, whichever comes first.
    assert words in stop.value.code or "exited unexpectedly" in stop.value.code
    assert "datamodule.workers=0" in stop.value.code
    _, position, command = stop.value.code.splitlines()
    assert re.fullmatch(
        r"stopped in stage parent at step . of 4 \(resume_minutes=1\); saved: nothing of it yet", position
    )
    assert command.startswith("to go on: python train.py ")
    assert results(tmp_path / "outputs") == []


def killed_while_loading():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_tracking_worker_that_is_killed_is_named(got10k, tmp_path, spawned_quickly):
    sequences = read_got10k(got10k, "val")
    with pytest.raises(
        SequencesFailedError, match=r"2 of 2 sequences failed(?s:.*)BrokenProcessPool: A (child )?process"
    ):
        Runner(["cpu"], 2, 1, 1).run(killed_while_loading, sequences, tmp_path)
    assert list(tmp_path.iterdir()) == []


# Loggers


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log_out(monkeypatch)


def test_a_result_survives_a_logger_that_fails(run, monkeypatch, logged_out, tmp_path, capsys):
    def fails(*_):
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(StageLogger, "_log_row", fails)
    monkeypatch.setattr(ending, "summary_of", fails)
    (result,) = results(run("train", "logger=wandb", "trainer.log_every_n_steps=1", "seed=98"))
    assert result["status"] == "finished"
    told = capsys.readouterr().out
    assert told.count("the logger cannot log metrics; no more are logged, and the job goes on") == 1
    assert told.count("the logger cannot log the result, and the job goes on (ConnectionResetError") == 1


def test_wandb_that_dies_in_the_middle_stops_no_job_and_not_the_next_one(logged_out, tmp_path, caplog):
    def failures() -> int:
        return sum("no more are logged" in record.getMessage() for record in caplog.records)

    run = wandb_runs.start_run(tmp_path / "a", "p", None)
    logger = StageLogger(run, checkpoints=False)
    logger.log_metrics({"parent/total": 1.0}, step=0)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (service,) = [int(c) for c in children if b"wandb-core" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)
    end = time.monotonic() + 60
    while not failures() and time.monotonic() < end:  # a thread of wandb notices that nobody listens
        logger.log_metrics({"parent/total": 1.0}, step=1)
        time.sleep(0.1)
    for step in (2, 3):
        logger.log_metrics({"parent/total": 1.0}, step=step)
    with pytest.raises(ZeroDivisionError), ending.marked_if_failed(logger):
        raise ZeroDivisionError
    assert failures() == 1
    again = wandb_runs.start_run(tmp_path / "b", "p", None)
    again.log({"a": 1})
    again.finish()
    assert OfflineRun(tmp_path / "b").summary["a"] == 1


def test_a_server_that_nobody_reaches_costs_seconds_and_the_run_is_kept(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_runs, "START", 2.0)
    start = time.monotonic()
    run = wandb_runs.start_run(tmp_path, "p", None)
    run.log({"a": 1})
    run.finish()
    assert time.monotonic() - start < 60
    assert OfflineRun(tmp_path).summary["a"] == 1
    assert "W&B cannot be reached" in caplog.text


# The clock


def test_a_clock_that_jumps_changes_nothing(run, monkeypatch):
    hours = itertools.cycle([0, -3600, 7200, -100_000])
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + next(hours))
    (result,) = results(run("train", "ratio=0.5", "seed=31"))
    assert result["status"] == "finished"
    seconds = [value for value in result["seconds"].values() if value != "cached"]
    assert all(0 <= value < 600 for value in seconds)


def test_a_sweep_after_a_jump_of_the_clock_still_renews_its_report(tmp_path):
    for name, age in ((sweep_callbacks.STARTED, 5), ("report.html", -86_400)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert sweep_callbacks._seconds_since_report(tmp_path) > sweep_callbacks.REPORT_INTERVAL
