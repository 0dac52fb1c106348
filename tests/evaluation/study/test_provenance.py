"""What a job says about the code and the machine that ran it."""

import json
import subprocess
from pathlib import Path

import torch

from evaluation.study.provenance import provenance


def test_code_and_machine_are_named():
    said = provenance()
    assert said["versions"]["torch"] == torch.__version__.split("+")[0]
    assert said["machine"]["cpu"]
    assert said["machine"]["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(said)) == said


def test_the_commit_is_that_of_the_code_and_not_of_the_working_directory(tmp_path, monkeypatch):
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(tmp_path)
    assert (provenance()["commit"] or "").split(",")[0] == head


def test_the_commit_of_another_project_is_not_taken_for_ours(tmp_path, monkeypatch):
    """As in an environment that lies in the repository of the user's own project."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    installed = tmp_path / ".venv" / "provenance.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr("evaluation.study.provenance.__file__", str(installed))
    assert provenance()["commit"] is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["commit"] is None
