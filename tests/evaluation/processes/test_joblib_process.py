"""A job that joblib runs in a process of its own can start processes."""

import os
import subprocess
import sys
from pathlib import Path

from evaluation.processes.joblib_process import silence_leaks

ROOT = Path(__file__).parents[3]
SWEEP = """
import multiprocessing, os, sys
import joblib
from evaluation.processes.joblib_process import prepare_joblib_process

def job(number):
    prepare_joblib_process()
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    return process.exitcode

if __name__ == "__main__":
    sys.exit(max(joblib.Parallel(2, backend="loky")(joblib.delayed(job)(i) for i in range(2))))
"""


def test_a_job_of_joblib_spawns_processes(tmp_path):
    (tmp_path / "sweep.py").write_text(SWEEP)
    done = subprocess.run(
        [sys.executable, tmp_path / "sweep.py"], cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_joblib_does_not_warn_of_what_a_signal_has_left(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error::DeprecationWarning")
    for _ in range(2):
        silence_leaks()
    assert os.environ["PYTHONWARNINGS"] == "error::DeprecationWarning,ignore:resource_tracker"
