"""Errors in the processes of a job, as the process that started them tells them."""

from types import SimpleNamespace

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from evaluation.errors import UserError
from evaluation.processes.launching import launch
from evaluation.processes.user_errors import message_of

TRACEBACK = """

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "a.py", line 7, in losses
{}"""

# What Python prints of a fault of the code that has an error of the user as its cause.
CAUSED = """evaluation.errors.UserError: give x=1

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "b.py", line 3, in somewhere
RuntimeError: a bug
"""


def launched(error: BaseException, killed: list | None = None) -> None:
    def fail(work):
        raise error

    launcher = SimpleNamespace(launch=fail, kill=(killed or []).append)
    trainer = SimpleNamespace(num_devices=2, num_nodes=1, strategy=SimpleNamespace(launcher=launcher))
    launch(trainer, None, None, lambda: None)


@pytest.mark.parametrize("message", ["ratio=7 is too large", "two\nlines"])
def test_an_error_of_the_user_in_a_process_is_one_of_its_parent(message):
    text = TRACEBACK.format(f"evaluation.errors.UserError: {message}\n")
    with pytest.raises(UserError) as error:
        launched(ProcessRaisedException(text, 1, 42))
    assert str(error.value) == message


@pytest.mark.parametrize("line", ["ValueError: a bug", "KeyError: 'evaluation.errors.UserError'", CAUSED])
def test_a_fault_in_a_process_keeps_the_traceback_of_the_process(line):
    with pytest.raises(ProcessRaisedException, match="in losses") as error:
        launched(ProcessRaisedException(TRACEBACK.format(line), 1, 42))
    assert message_of(error.value) is None


def test_a_process_that_was_killed_is_one_line():
    error = ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 42, -9, "SIGKILL")
    with pytest.raises(UserError, match=r"^process 1 terminated with signal SIGKILL: somebody killed it, or memory"):
        launched(error)
