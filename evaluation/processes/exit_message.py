"""The message of a command that was stopped or has failed: where it stopped, and the exact command that goes on."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from evaluation.processes.command_state import command_state
from evaluation.processes.termination import WORDS, announces, ends_in_order

SIGNALS = tuple(128 + number for number in WORDS)  # exit codes of commands that a signal has ended


def with_exit_message(main: Callable[[], Any]) -> Callable[[], Any]:
    """Makes a script end with a message that says how it goes on, after Ctrl-C, SIGTERM or a failure.

    After a signal the message has two lines, behind that about the signal. After a failure it follows the error or its
    traceback. An error from before the first stage, such as a misspelt key, would come again, and gets no message.
    """

    @wraps(main)
    def run() -> Any:
        command_state.begin_command()
        with ends_in_order(lambda: command_state.wait()):
            try:
                return main()
            except KeyboardInterrupt:
                end = SystemExit(SIGNALS[-1])
            except SystemExit as stop:
                end = stop
            raise _with_message(end) from None

    return run


def exit_message(position: str) -> str:
    """Returns where the command has stopped, and how it goes on, in two lines; in one line without a position."""
    return "\n".join(filter(None, (position, f"to go on: {command_state.resume_command()}")))


def _with_message(end: SystemExit) -> SystemExit:
    """Prints the message after a signal or a traceback, or adds it to the words of an error, which Python prints."""
    if end.code in (None, 0) or not announces():
        return end
    if end.code in SIGNALS:
        command_state.close()
    position = command_state.position()
    if isinstance(end.code, str):
        return SystemExit(f"{end.code}\n{exit_message(position)}") if position else end
    if (position or end.code in SIGNALS) and command_state.can_go_on:
        print(exit_message(position), file=sys.stderr, flush=True)
    return end
