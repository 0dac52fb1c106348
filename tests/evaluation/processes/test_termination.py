"""Processes that get signals: children leave with their parent, and what a job was making can be continued."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from evaluation.processes.command_state import command_state
from evaluation.processes.termination import ends_in_order
from evaluation.study.resuming import AtomicCheckpointIO, saved_step
from tests.conftest import SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD
from tests.offline_runs import OfflineRun, log_out
from tests.processes import is_alive

ROOT = Path(__file__).parents[3]
LONG = ("stages.parent.steps=100000", "resume_minutes=0", "datamodule.samples_per_epoch=40")
EACH_STEP = "trainer.log_every_n_steps=1"
PATIENCE = 300  # seconds: how long a machine with other work may take; whoever waits goes on at once when it is done
SOON = 60  # seconds, for processes that leave within 4 on an idle machine
CHILDREN = {
    "multiprocessing": """
        for method in ("fork", "spawn"):
            multiprocessing.get_context(method).Process(target=sleep).start()
    """,
    "joblib": """
        joblib.Parallel(2, backend="loky")(joblib.delayed(sleep)() for _ in range(2))
    """,
    "subprocess": """
        subprocess.Popen([sys.executable, __file__, "child"])
    """,
}
SCRIPT = """
import multiprocessing, os, subprocess, sys, time
import joblib
from datamodules.exit_with_parent import exit_with_parent

def sleep():
    exit_with_parent()
    os.write(1, b"ready\\n")  # one write: an unbuffered print writes the line's end apart, and lines mix
    time.sleep(600)

if __name__ == "__main__":
    if "child" in sys.argv:
        sleep()
    else:
        {children}
        time.sleep(600)
"""


def descendants(process: int) -> set[int]:
    """Returns the numbers of all processes below a process."""
    found = set()
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or a process that has ended since
            for child in map(int, children.read_text().split()):
                found |= {child} | descendants(child)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return done


def gone(processes: Iterable[int]) -> bool:
    return not any(map(is_alive, processes))


@pytest.fixture
def start(tmp_path: Path):
    """Starts Python in a process group of its own, which is killed at the end whatever happens."""
    started = []

    def start(*arguments: str | Path, stdin: int | None = None) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        for each in descendants(process.pid) | {process.pid}:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize(("kind", "count"), [("multiprocessing", 2), ("joblib", 2), ("subprocess", 1)])
def test_children_leave_with_a_parent_that_was_killed(tmp_path, start, kind, count):
    (tmp_path / "parent.py").write_text(SCRIPT.format(children=CHILDREN[kind].strip()))
    parent = start(tmp_path / "parent.py")
    assert [parent.stdout.readline() for _ in range(count)] == ["ready\n"] * count
    children = descendants(parent.pid)
    assert len(children) >= count
    parent.kill()
    assert wait_until(lambda: gone(children), SOON)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_job_in_order_with_its_code(tmp_path, start, number, code):
    (tmp_path / "job.py").write_text(
        "import multiprocessing, os, time\n"
        "from evaluation.processes.termination import ends_in_order\n"
        "def work():\n"
        "    os.write(1, b'ready\\n')  # Python loses a signal that reaches a fork before it runs\n"
        "    time.sleep(600)\n"
        "with ends_in_order():\n"
        "    try:\n"
        "        multiprocessing.get_context('fork').Process(target=work).start()\n"
        "        work()\n"
        "    finally:\n"
        "        print('closing the log', flush=True)\n"
    )
    job = start(tmp_path / "job.py")
    assert [job.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    (child,) = descendants(job.pid)
    if number == signal.SIGINT:
        os.killpg(job.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        job.send_signal(number)
    told, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == code
    assert "closing the log" in told
    assert "the same command continues where it stopped" in told
    assert "in <module>" not in told
    assert wait_until(lambda: gone([child]), SOON)


@pytest.mark.parametrize(
    ("goes_on", "words"),
    [(True, "interrupted; the same command continues where it stopped\n"), (False, "interrupted\n")],
)
def test_a_command_that_keeps_nothing_promises_nothing(monkeypatch, capfd, goes_on, words):
    monkeypatch.setattr(command_state, "can_go_on", goes_on)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as end, ends_in_order():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    assert capfd.readouterr().err == words


def test_a_handler_that_was_there_before_stays():
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        before = signal.getsignal(signal.SIGTERM)
        with ends_in_order():
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, mine)
    with ends_in_order():
        assert signal.getsignal(signal.SIGTERM) != mine
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == mine
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system lacks sigwaitinfo")
def test_a_worker_stays_until_its_parent_ends_it(tmp_path, start):
    # In a process of its own: libraries that other tests have used may give a fork threads that do not block signals.
    (tmp_path / "parent.py").write_text(
        "import multiprocessing, os, sys, time\n"
        "from datamodules.exit_with_parent import stay_until_parent_ends_it\n"
        "def work():\n"
        "    stay_until_parent_ends_it()\n"
        "    os.write(1, b'ready\\n')\n"
        "    time.sleep(600)\n"
        "worker = multiprocessing.get_context('fork').Process(target=work)\n"
        "worker.start()\n"
        "sys.stdin.readline()\n"
        "alive = worker.is_alive()\n"
        "worker.terminate()\n"
        "worker.join(300)\n"
        "os.write(1, f'{alive} {worker.exitcode}\\n'.encode())\n"
    )
    parent = start(tmp_path / "parent.py", stdin=subprocess.PIPE)
    assert parent.stdout.readline() == "ready\n"
    (worker,) = descendants(parent.pid)
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)
    assert not wait_until(lambda: gone([worker]), 0.5)
    assert parent.communicate("\n", timeout=PATIENCE)[0] == "True 0\n"


# Whole commands


def command(cache: Path, outputs: Path, *overrides: str) -> list[str]:
    settings = [*SMALL_WORLD, *SHORT_STAGES, *SMALL_NETWORK, *LONG, f"paths.cache={cache}", f"paths.outputs={outputs}"]
    flags = [o for o in overrides if o.startswith("-")]
    return ["train.py", *flags, *settings, *(o for o in overrides if o not in flags)]


def training_checkpoints(cache: Path) -> list[Path]:
    return list(cache.glob("stages/parent-*.unfinished/scratch/training.ckpt"))


@pytest.mark.attack
def test_a_training_that_is_terminated_is_continued(start, fresh_cache, tmp_path, monkeypatch):
    log_out(monkeypatch)
    outputs = tmp_path / "outputs"
    training = start(*command(fresh_cache, outputs, "datamodule.workers=1", "logger=wandb", EACH_STEP))
    assert wait_until(lambda: bool(training_checkpoints(fresh_cache)))
    children = descendants(training.pid)
    os.killpg(training.pid, signal.SIGTERM)  # a cluster signals all processes, also the loader's workers
    told, _ = training.communicate(timeout=PATIENCE)
    assert training.returncode == 143
    assert "the training saves its state after this step" in told
    assert "Traceback" not in told
    position, going_on = (line for line in told.splitlines() if line.startswith(("stopped in", "to go on: python ")))
    assert wait_until(lambda: gone(children), SOON)
    (checkpoint,) = training_checkpoints(fresh_cache)
    step = saved_step(checkpoint)
    assert step >= 2
    assert [path.name for path in checkpoint.parent.iterdir()] == ["training.ckpt"]
    (folder,) = (outputs / "train").iterdir()
    assert position == f"stopped in stage parent at step {step:,} of 100,000; saved: step {step:,} of 100,000"
    run = OfflineRun(folder)
    assert (run.exit_code, run.was_preempted) == (1, True)
    again = start(*shlex.split(going_on.removeprefix("to go on: python ")))
    assert wait_until(lambda: saved_step(checkpoint) > step)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 130
    assert [path.name for path in (outputs / "train").iterdir()] == [folder.name]
    continued = OfflineRun(folder, part=1, parts=2)
    assert continued.about["run_id"] == run.about["run_id"]
    assert continued.history[0]["_step"] == len(run.history)


@pytest.mark.attack
@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_ctrl_c_ends_a_sweep_and_keeps_what_its_jobs_have_learned(start, fresh_cache, tmp_path, launcher):
    study = tmp_path / "a study"
    sweep = start(*command(fresh_cache, tmp_path, "-m", "seed=1,2,3,4", *launcher, f"hydra.sweep.dir='{study}'"))
    running = 2 if launcher else 1
    assert wait_until(lambda: len(training_checkpoints(fresh_cache)) == running)
    children = descendants(sweep.pid)
    os.killpg(sweep.pid, signal.SIGINT)
    told, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130
    assert "Traceback" not in told
    assert wait_until(lambda: gone(children), SOON)
    going_on = next(line for line in told.splitlines() if line.startswith("to go on: python train.py -m "))
    assert shlex.split(going_on)[-1] == f"hydra.sweep.dir='{study}'"
    steps = [saved_step(path) for path in training_checkpoints(fresh_cache)]
    assert len(steps) == running
    assert not list(study.glob(".running-*"))


@pytest.mark.attack
def test_no_job_of_a_sweep_outlives_its_parent(start, fresh_cache, tmp_path):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "datamodule.workers=1")
    sweep = start(*command(fresh_cache, tmp_path / "outputs", "-m", "seed=1,2", *launcher))
    assert wait_until(lambda: len(training_checkpoints(fresh_cache)) == 2)
    children = descendants(sweep.pid)
    assert len(children) >= 4, "two jobs with a loader worker each"
    sweep.kill()
    assert wait_until(lambda: gone(children), SOON)
    assert all(saved_step(path) >= 2 for path in training_checkpoints(fresh_cache))


def save_again_and_again(path: Path) -> None:
    with ends_in_order():
        for step in range(100_000):
            weights = torch.full((500_000,), float(step))
            AtomicCheckpointIO().save_checkpoint({"global_step": step, "weights": weights}, path)


@pytest.mark.attack
@pytest.mark.parametrize(("number", "wait"), [(signal.SIGTERM, 0.003), (signal.SIGINT, 0), (signal.SIGKILL, 0.006)])
def test_a_signal_while_a_checkpoint_is_saved_leaves_the_old_or_the_new_one(tmp_path, number, wait, spawned_quickly):
    path = tmp_path / "training.ckpt"
    saving = multiprocessing.get_context("spawn").Process(target=save_again_and_again, args=(path,))
    saving.start()
    assert wait_until(path.is_file)
    time.sleep(wait)
    os.kill(saving.pid, number)
    saving.join(PATIENCE)
    assert saving.exitcode == (-9 if number == signal.SIGKILL else 128 + number)
    saved = torch.load(path, weights_only=True)
    assert (saved["weights"] == saved["global_step"]).all()
    if number != signal.SIGKILL:
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
