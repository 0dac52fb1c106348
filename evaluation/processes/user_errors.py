"""Tells errors that the user can correct from faults of the code: the first are one line, the others a traceback."""

import errno
import inspect
import logging
import os
import traceback
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object

from evaluation.errors import USER_ERRORS

log = logging.getLogger(__name__)

# Errors of the machine and of the rights on it, and what the user can do. Other OSErrors may be faults of the code.
FULL = "free some space; the same command continues where it stopped"
FORBIDDEN = "change the rights, or choose another folder, e.g. paths.outputs=DIR paths.cache=DIR"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "raise the limit (ulimit -f); the same command continues where it stopped",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENOTDIR: "a file lies in the place of a folder; choose another folder",
    errno.EIO: "the disk or the network drive fails; the same command continues where it stopped",
    errno.ESTALE: "the network drive was unmounted; the same command continues where it stopped",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit (ulimit -n), or use fewer workers",
}
LOST_WORKER = "DataLoader worker"  # start of PyTorch's message of a worker that was killed, e.g. for lack of memory


def message_of(error: BaseException) -> str | None:
    """Returns the message of an error that the user can correct; None for a fault of the code."""
    if isinstance(error, InstantiationException):
        return _message_of_instantiation(error)
    if isinstance(error, USER_ERRORS):
        return _own_words(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}; {REMEDIES[error.errno]}"
    if isinstance(error, RuntimeError) and str(error).startswith(LOST_WORKER):
        words = str(error).partition("\n")[0].rstrip(" .")
        return f"{words}. If memory or /dev/shm is short, set datamodule.workers=0; the same command continues"
    return None


def fault_in(error: BaseException) -> BaseException:
    """Returns the error itself, or the one that Hydra hides: it prints its own errors without a traceback."""
    return error.__cause__ or error if isinstance(error, InstantiationException) else error


def summary_of(error: BaseException) -> str:
    """Returns an error in words for a table: its message, or the type and the text of a fault."""
    fault = fault_in(error)
    return message_of(error) or f"{type(fault).__name__}: {fault}"


def shows_all_tracebacks() -> bool:
    """Returns whether the user asks for tracebacks on the screen, as everywhere in Hydra: HYDRA_FULL_ERROR=1."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def log_traceback(error: BaseException) -> None:
    """Writes the traceback of an error into the log file of the command, and nothing to the screen."""
    info = (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "traceback of the error:", (), info)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _own_words(error: BaseException) -> str:
    """Returns the message of an error. PyTorch puts the traceback before it if the error comes from a loader worker."""
    kind, words = type(error), str(error)
    if not words.startswith(f"Caught {kind.__name__} in DataLoader worker"):
        return words
    return words.rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].strip()


def _message_of_instantiation(error: InstantiationException) -> str | None:
    cause = error.__cause__
    words = str(error).replace(", set env var HYDRA_FULL_ERROR=1 to see chained exception", "")
    if cause is not None and _has_wrong_arguments(cause, str(error)):
        place = words.partition("full_key: ")[2] or words.partition("'")[2].partition("'")[0]
        return f"{place}: {cause}"
    if cause is None or _names_nothing(cause):
        return "; ".join(filter(None, words.splitlines()))
    return message_of(cause)


def _names_nothing(error: BaseException) -> bool:
    """Returns whether a `_target_` does not exist. An error within its module is a fault of that module."""
    reason = error.__cause__
    if isinstance(reason, ModuleNotFoundError):
        return f"'{reason.name}" in str(error).partition("\n")[0]  # Error loading 'a.b.c'
    return isinstance(error, ImportError) and isinstance(reason, AttributeError)


def _has_wrong_arguments(error: BaseException, words: str) -> bool:
    """Returns whether a call did not fit the signature. An error inside of the called function is its own fault."""
    if not isinstance(error, TypeError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    start, _, rest = words.partition("'")
    called: Any = get_object(rest.partition("'")[0]) if start == "Error in call to target " else type(None)
    names = [f"{base.__name__}.__init__() " for base in inspect.getmro(called)] if inspect.isclass(called) else []
    return len(frames) == 1 or str(error).startswith((*names, f"{called.__name__}() "))
