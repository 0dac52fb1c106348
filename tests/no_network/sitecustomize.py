"""Keeps a process of the tests from the network, and writes down what it tried to reach.

Python imports a module of this name at its start, and `tests/conftest.py` puts this folder on PYTHONPATH, so processes
that tests start are kept from the network too. Programs that are not Python get a proxy that does not exist.
"""

import os
import socket
import sys
from pathlib import Path


def own_address() -> str:
    """Returns the address of this machine, by which programs on it reach each other, "" without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only the route is looked up
        except OSError:
            return ""
        return probe.getsockname()[0]


LOCAL = {"", "localhost", "::", "::1", "0.0.0.0", None, socket.gethostname()}


def refuse(event: str, arguments: tuple) -> None:
    """Raises OSError, as an unreachable network does, before anything leaves the machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in LOCAL or host.startswith("127."):
        return
    with Path(os.environ["TESTS_NETWORK_LOG"]).open("a") as log:
        log.write(f"{event} {host}: {' '.join(sys.argv)[:200]}\n")
    raise OSError(f"tests reach no network, and this one tried {host}")


if "TESTS_NETWORK_LOG" in os.environ:
    LOCAL.add(own_address())
    sys.addaudithook(refuse)
