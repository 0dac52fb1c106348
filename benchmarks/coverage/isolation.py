"""A function in a process of its own, with limits of time and memory."""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def in_process(function: Callable[..., dict], *arguments: Any, seconds: float, gigabytes: float) -> dict[str, Any]:
    """Returns the dictionary that a function returns, or a "status" and "reason" if its process has ended without one.

    The process is a fork, so that it has this process's modules. Call no threads of torch before.

    Args:
        function: returns a dictionary.
        arguments: its arguments.
        seconds: limit of the processor's time; six times as long by the clock, for busy machines.
        gigabytes: limit of memory.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_run, args=(sender, function, arguments, seconds, gigabytes))
    process.start()
    sender.close()
    try:
        if not receiver.poll(6 * seconds):
            return {"status": "refused", "reason": f"not done after {6 * seconds:g} s"}
        return receiver.recv()
    except EOFError:
        process.join()
        if -process.exitcode in (signal.SIGXCPU, signal.SIGKILL):  # the soft and the hard limit of time
            return {"status": "refused", "reason": f"not done after {seconds:g} s"}
        return {"status": "refused", "reason": f"its process ended with the code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _run(sender: Connection, function: Callable[..., dict], arguments: tuple, seconds: float, gigabytes: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30), resource.RLIM_INFINITY))
    row = function(*arguments)
    row["total_seconds"] = time.process_time()
    row["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sender.send(row)
