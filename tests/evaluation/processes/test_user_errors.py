"""Errors of the user are one line. All others keep their tracebacks, wherever they come from."""

import errno
import logging
import sys
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch._utils import ExceptionWrapper

from datamodules.errors import DataError
from datamodules.frames.pictures import UnreadableFrameError
from evaluation.errors import UserError
from evaluation.processes.lightning import build_trainer
from evaluation.processes.user_errors import fault_in, log_traceback, message_of, summary_of
from evaluation.tracking.runner import SequencesFailedError
from pruning import PruningError
from tests.conftest import results
from trackers.errors import CheckpointError


def refuses(value=0):
    raise DataError(f"value={value} is too odd; set value=2")


def has_a_bug(value=0):
    return value.shape


def calls_wrongly(value=0):
    return has_a_bug(colour=value)


def writes(value=0):
    raise PermissionError(errno.EACCES, "Permission denied", "/a/b")


def error_of(node) -> InstantiationException:
    with pytest.raises(InstantiationException) as caught:
        instantiate(OmegaConf.create(node))
    return caught.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("ratio=2 is too large"), "ratio=2 is too large"),
        (DataError("no data"), "no data"),
        (CheckpointError("no checkpoint"), "no checkpoint"),
        (SequencesFailedError("2 of 3 sequences failed"), "2 of 3"),
        (UnreadableFrameError(Path("/a/1.jpg")), "/a/1.jpg"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/a"), "No space left on device: /full/a; free some"),
        (OSError(errno.EROFS, "Read-only file system", "/ro/a"), "/ro/a; change the rights"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "Permission denied: /a"),
        (OSError(errno.ESTALE, "Stale file handle", "/nfs/a"), "/nfs/a"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore"), "datamodule.workers=0"),
    ],
)
def test_errors_that_the_user_can_correct(error, words):
    assert words in message_of(error)
    assert "\n" not in message_of(error)


def test_an_error_from_a_loader_worker_has_no_traceback_in_its_message():
    try:
        raise DataError("16 frames in a row could not be read")
    except DataError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError, match="Traceback") as error:
        wrapped.reraise()
    assert message_of(error.value) == "16 frames in a row could not be read"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("of somebody's tracker"),
        TypeError("of ours"),
        KeyError("name"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a"),
        OSError("of a library, without a number"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ],
)
def test_faults_of_the_code_are_no_message(error):
    assert message_of(error) is None
    assert summary_of(error) == f"{type(error).__name__}: {error}"


HERE = __name__


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": f"{HERE}.refuses"}, "value=0 is too odd; set value=2"),
        ({"a": {"_target_": f"{HERE}.refuses", "value": 3}}, "value=3"),
        ({"_target_": f"{HERE}.writes"}, "Permission denied: /a/b"),
        ({"_target_": f"{HERE}.refuses", "valeu": 3}, "unexpected keyword argument 'valeu'"),
        ({"_target_": "datamodules.frames.pictures.UnreadableFrameError"}, "missing 1 required positional argument"),
        ({"_target_": f"{HERE}.nothing"}, f"Error locating target '{HERE}.nothing'"),
        ({"_target_": "no_such_package.Tracker"}, "no_such_package"),
        ({"_target_": "pruning.no_such_module.Tracker"}, "pruning.no_such_module"),
        ({"_target_": "os.sep"}, "callable"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_one_message(node, words):
    message = message_of(error_of(node))
    assert words in message
    assert "HYDRA_FULL_ERROR" not in message


@pytest.mark.parametrize("target", ["has_a_bug", "calls_wrongly"])
def test_a_fault_in_what_the_configuration_builds_keeps_its_traceback(target):
    error = error_of({"_target_": f"{HERE}.{target}"})
    assert message_of(error) is None
    assert isinstance(fault_in(error), TypeError | AttributeError)
    assert "shape" in summary_of(error) or "colour" in summary_of(error)


def test_a_fault_within_a_module_that_the_configuration_names_keeps_its_traceback(tmp_path, monkeypatch):
    for name, text in (("mine", "import no_such_package\n"), ("yours", "x = undefined\n")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "yours"):
        assert message_of(error_of({"_target_": f"{name}.Tracker"})) is None
        sys.modules.pop(name, None)


@pytest.mark.parametrize("settings", [{"accelerator": "gpux"}, {"precision": "99"}, {"devices": 0}, {"colour": 1}])
def test_settings_that_lightning_refuses_are_one_message(settings):
    settings = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu"} | settings
    with pytest.raises(UserError, match="these settings of `trainer` make no trainer"):
        build_trainer(settings)


def test_a_traceback_goes_into_the_log_file_alone(tmp_path, capsys):
    screen, file = logging.StreamHandler(), logging.FileHandler(tmp_path / "a.log")
    for handler in (screen, file):
        logging.getLogger().addHandler(handler)
    try:
        has_a_bug()
    except AttributeError as error:
        log_traceback(error)
    finally:
        for handler in (screen, file):
            logging.getLogger().removeHandler(handler)
        file.close()
    assert "in has_a_bug" in (tmp_path / "a.log").read_text()
    assert capsys.readouterr().err == ""


# Whole commands


@pytest.fixture
def buggy(monkeypatch):
    """A tracker that somebody is writing."""
    from trackers.ostrack import OSTrack

    def losses(self, batch):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(OSTrack, "losses", losses)


def log_of(outputs: Path) -> str:
    (log,) = outputs.rglob("train.log")
    return log.read_text()


def test_a_value_error_of_a_tracker_keeps_its_traceback(run, buggy, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "seed=81")  # no other test has cached this parent
    assert stop.value.code == 1
    told = capsys.readouterr().err
    assert told.splitlines()[-2].startswith("stopped in stage parent at step 0 of 4 (resume_minutes=1); saved: nothing")
    assert "to go on: python train.py" in told.splitlines()[-1]
    assert told.count("in losses\n") == 1
    assert "ValueError: operands could not be broadcast together" in told
    assert "in losses" in log_of(tmp_path / "outputs")


def test_in_a_sweep_its_traceback_is_in_the_log_and_one_line_in_the_summary(run, buggy, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"1 of 1 jobs failed") as stop:
        run("train", "-m", "ratio=1", "seed=82", "~hydra.callbacks.report")
    assert stop.value.code.splitlines()[1].endswith(": ValueError: operands could not be broadcast together")
    assert "in losses" in log_of(tmp_path / "outputs")
    assert "in losses" not in capsys.readouterr().out
    assert results(tmp_path / "outputs")[0]["error"] == "ValueError: operands could not be broadcast together"


def test_an_error_of_the_user_is_one_line_and_its_traceback_is_in_the_log(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "ratio=7")
    assert stop.value.code.startswith("error: ratio=7")
    assert "Traceback" not in capsys.readouterr().err
    assert "Traceback" in log_of(tmp_path / "outputs")


def test_whoever_asks_for_tracebacks_gets_them(run, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(PruningError, match="ratio=7"):
        run("train", "ratio=7")


def test_an_evaluation_that_fails_does_not_stop_the_others(run, small_checkpoint, tmp_path):
    with pytest.raises(SystemExit, match=r"1 of 2 jobs failed(?s:.*)no checkpoint at /nowhere"):
        run("eval", "-m", f"checkpoint=/nowhere,{small_checkpoint}")
    failed, scored = results(tmp_path / "outputs")
    assert failed["status"] == "failed"
    assert "metrics" in scored
    assert scored.keys() >= {"commit", "versions", "machine"}
    (sweep,) = (tmp_path / "outputs" / "eval").iterdir()
    folders = {path.name for path in sweep.glob("*/")}
    assert folders == {"0_nowhere_synthetic", f"1_{small_checkpoint.parent.name}_synthetic"}
