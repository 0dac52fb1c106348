"""The last words of a command that was stopped or has failed: where it stopped, and the exact command that goes on."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from evaluation.processes.going_on import command_that_goes_on
from evaluation.processes.termination import WORDS, announces, ends_in_order

SIGNALS = tuple(128 + number for number in WORDS)  # exit codes of commands that a signal has ended


def _nothing() -> str:
    return ""


@dataclass
class Course:
    """What the command of this process is doing, for its last words.

    Attributes:
        arguments: of the command, as the user gave them.
        folder: the override that names its folder, see `folder_override`; "" before it has one.
        job: returns in words where the running job is; "" before a job has begun its first stage.
        step: at which step the training stopped, in words; "" if that is not known or none was running.
        sweep: returns in words what a sweep has finished; "" for a single job.
        wait: returns when the jobs of a sweep that run in other processes have saved their states.
        close: writes the table of a sweep that stops early.
    """

    arguments: tuple[str, ...] = ()
    folder: str = ""
    job: Callable[[], str] = _nothing
    step: str = ""
    sweep: Callable[[], str] = _nothing
    wait: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None

    def begin_command(self) -> None:
        """Forgets an earlier command of this process."""
        self.__dict__.update(Course(tuple(sys.argv)).__dict__)

    def begin_job(self, job: Callable[[], str] = _nothing) -> None:
        """Forgets an earlier job of the command."""
        self.job, self.step = job, ""

    def command(self) -> str:
        """Returns the command that goes on where this one has stopped."""
        return command_that_goes_on(self.arguments or sys.argv, self.folder)

    def position(self) -> str:
        """Returns in words where the command is; "" if it has done nothing yet that can go on."""
        return "; ".join(filter(None, (self.job(), self.sweep())))


course = Course()  # of the only command that a process runs at a time


def with_last_words(main: Callable[[], Any]) -> Callable[[], Any]:
    """Makes a script end with its last words after Ctrl-C, SIGTERM or a failure.

    After a signal these are two lines that follow the message about the signal. After a failure they follow its message
    or its traceback. Errors from before the first stage, such as a misspelt key, would come again, and get no such
    words.
    """

    @wraps(main)
    def run() -> Any:
        course.begin_command()
        with ends_in_order(lambda: course.wait()):
            try:
                return main()
            except KeyboardInterrupt:
                end = SystemExit(SIGNALS[-1])
            except SystemExit as stop:
                end = stop
            raise _with_words(end) from None

    return run


def last_words(position: str) -> str:
    """Returns where the command has stopped, and how it goes on, in two lines; in one line without a position."""
    return "\n".join(filter(None, (position, f"to go on: {course.command()}")))


def _with_words(end: SystemExit) -> SystemExit:
    """Prints the last words after a signal or a traceback; after a message, which Python prints, it adds them."""
    if end.code in (None, 0) or not announces():
        return end
    if end.code in SIGNALS:
        course.close()
    position = course.position()
    if isinstance(end.code, str):
        return SystemExit(f"{end.code}\n{last_words(position)}") if position else end
    if position or end.code in SIGNALS:
        print(last_words(position), file=sys.stderr, flush=True)
    return end
