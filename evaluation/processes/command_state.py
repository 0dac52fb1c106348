"""What the command of this process is doing: its folder, its job and its step, for the message if it stops."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from evaluation.processes.shell_command import given_command, resume_command


def _nothing() -> str:
    return ""


@dataclass
class CommandState:
    """State of a command.

    Attributes:
        arguments: of the command, as the user gave them.
        folder: the override that names its folder, see `folder_override`; "" before it has one.
        job: returns in words where the running job is; "" before a job has begun its first stage.
        step: at which step the training stopped, in words; "" if that is not known or none was running.
        sweep: returns in words what a sweep has finished; "" for a single job.
        wait: returns when the jobs of a sweep that run in other processes have saved their states.
        can_go_on: whether the same command goes on where it stopped.
        close: writes the table of a sweep that stops early.
    """

    arguments: tuple[str, ...] = ()
    folder: str = ""
    job: Callable[[], str] = _nothing
    step: str = ""
    sweep: Callable[[], str] = _nothing
    wait: Callable[[], None] = lambda: None
    can_go_on: bool = True
    close: Callable[[], object] = lambda: None

    def begin_command(self) -> None:
        """Forgets an earlier command of this process."""
        self.__dict__.update(CommandState(tuple(sys.argv)).__dict__)

    def begin_job(self, job: Callable[[], str] = _nothing) -> None:
        """Forgets an earlier job of the command."""
        self.job, self.step, self.can_go_on = job, "", True

    def given_command(self) -> str:
        """Returns the command as the user gave it."""
        return given_command(self.arguments or sys.argv)

    def resume_command(self) -> str:
        """Returns the command that goes on where this one has stopped."""
        return resume_command(self.arguments or sys.argv, self.folder)

    def position(self) -> str:
        """Returns in words where the command is; "" if it has done nothing yet that can go on."""
        return "; ".join(filter(None, (self.job(), self.sweep())))


command_state = CommandState()  # of the only command that a process runs at a time
