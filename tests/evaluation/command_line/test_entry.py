"""Whole commands end with our messages, wherever Hydra meets the error."""

import importlib
import sys

import pytest

from tests.conftest import CONF


@pytest.fixture(autouse=True)
def composed_once(monkeypatch):
    """Hydra does not compose the configuration once more to read `hydra.mode` in it."""
    from hydra._internal.hydra import Hydra

    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)


def refused(monkeypatch, capsys, *arguments):
    """Runs train.py and returns its message."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, f"--config-path={CONF}"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("train").main()
    assert capsys.readouterr().err == ""
    return str(stop.value.code)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ratioo=3",), "error: train.py has no key ratioo; did you mean ratio"),
        (("--ratio=0.5",), "error: --ratio=0.5 is no option; keys have no dashes: ratio=0.5"),
        (("seed=1", "--cfg", "job", "tracker=dimpp"), "error: tracker=dimpp is no choice"),
        (("--help", "ratioo=3"), "error: train.py has no key ratioo"),
        (("tracker=dimp50",), "error: tracker=dimp50 has no scale=tiny; choose scale=full"),
        (("--cfg",), "error: argument --cfg/-c: expected one argument"),
        (("--run", "-m"), "error: Only one of --run, --multirun"),
    ],
)
def test_hydra_prints_no_message_of_its_own(monkeypatch, capsys, arguments, words):
    assert refused(monkeypatch, capsys, *arguments).startswith(words)


def test_overrides_may_follow_an_option(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=7", "--cfg", "job", "ratio=0.5", f"--config-path={CONF}"])
    importlib.import_module("train").main()
    told = capsys.readouterr().out
    assert "ratio: 0.5" in told
    assert "seed: 7" in told


def test_whoever_asks_for_tracebacks_gets_them(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py", "ratioo=3", f"--config-path={CONF}"])
    with pytest.raises(Exception, match="ratioo"):
        importlib.import_module("train").main()


def test_several_files_of_a_group_are_not_merged(monkeypatch, capsys, tmp_path):
    told = refused(monkeypatch, capsys, "pruning=[slim,taylor]", f"hydra.run.dir={tmp_path}")
    assert told.startswith("error: pruning=[slim,taylor] names several choices; -m runs a job for each")


def test_a_sweep_that_lacks_a_key_ends_before_its_first_job(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["eval.py", "-m", "action=score,submit", f"hydra.sweep.dir={tmp_path / 'a'}"])
    monkeypatch.setattr(sys, "argv", [*sys.argv, f"--config-path={CONF}"])
    with pytest.raises(SystemExit, match=r"^error: this command needs checkpoint; add e\.g\. checkpoint="):
        importlib.import_module("eval").main()
    assert not (tmp_path / "a").exists()
