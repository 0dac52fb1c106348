"""No module reaches the network or starts a process when it is imported, and no test reaches the network."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from evaluation.installation import PACKAGES

IMPORTS_ALL = """
import importlib, pkgutil, sys
WATCHED = ("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.system", "os.exec", "urllib.")
sys.addaudithook(lambda event, words: event.startswith(WATCHED) and print(event, *words))
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
"""


@pytest.mark.attack
def test_imports_open_no_socket_and_start_no_process():
    command = [sys.executable, "-c", IMPORTS_ALL, *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours = [line for line in done.stdout.splitlines() if "ldconfig" not in line]  # torch looks for libraries of CUDA
    assert ours == []


REACHES = {
    "name": 'import socket; socket.create_connection(("example.org", 80), 1)',
    "address": 'import socket; socket.create_connection(("192.0.2.1", 80), 1)',
    "datagram": 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 53))',
    "ipv6": 'import socket; socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80))',
    "bytes": 'import socket; socket.getaddrinfo(b"example.org", 80)',
}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The log of attempts, for a test that makes some on purpose."""
    monkeypatch.setenv("TESTS_NETWORK_LOG", str(tmp_path / "network.log"))
    return tmp_path / "network.log"


@pytest.mark.parametrize("code", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize("where", ["this process", "a new process"])
def test_the_network_is_out_of_reach(code, where, attempts):
    if where == "this process":
        with pytest.raises(OSError, match="tests reach no network"):
            exec(code)
    else:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert "tests reach no network" in done.stderr
    assert len(attempts.read_text().splitlines()) == 1


def test_this_machine_is_in_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    left, right = socket.socketpair()
    left.close()
    right.close()


def test_other_programs_have_a_proxy_that_does_not_exist():
    assert urllib.request.getproxies()["https"] == os.environ["HTTPS_PROXY"] == "http://127.0.0.1:9"
