"""Peak memory of a process that does nothing but load one tracker and track a few frames."""

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.errors import UserError

FRAMES = 5
STATUS = Path("/proc/self/status")
START = "from evaluation.export.timing.peak_memory import _measure; _measure()"


def peak_memories(
    loaders: Sequence[Callable[[], Any]], size: tuple[int, int], device: str, threads: int
) -> list[dict[str, int]]:
    """Measures the memory of each tracker in a new process.

    Two processes run at a time, as the memory of one does not depend on the other.

    Args:
        loaders: each returns a tracker with `init` and `update`; they can be pickled.
        size: width and height of the frames, pixels.
        device: torch device of the trackers.
        threads: CPU threads of each process.

    Returns:
        For each tracker "peak", the bytes of resident memory with all libraries, and "libraries", the part that was
        resident before the tracker was loaded; on a GPU also "gpu", the most bytes that PyTorch allocated there.

    Raises:
        UserError: a process failed.
    """
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda load: _in_process(load, size, device, threads), loaders))


def _in_process(load: Callable[[], Any], size: tuple[int, int], device: str, threads: int) -> dict[str, int]:
    # The same modules must be found, and a program for several threads reserves memory for each.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(threads)}
    # The loader is a message within the message, so that its modules are imported when it is read.
    message = pickle.dumps((pickle.dumps(load), size, device))
    done = subprocess.run([sys.executable, "-c", START], input=message, capture_output=True, env=environment)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"the process that measures memory failed: {reason}; profile.memory=false leaves it out")
    return json.loads(done.stdout.splitlines()[-1])


def _measure() -> None:
    """Measures in the new process, and prints the result as JSON."""
    import cv2

    content, (width, height), device = pickle.loads(sys.stdin.buffer.read())
    cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"]))
    load = pickle.loads(content)
    found = {"libraries": _peak_of_process()}
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, height, width, 3), np.uint8)
    tracker = load()
    tracker.init(frames[0], (width / 3, height / 3, width / 10, height / 10))
    for frame in frames[1:]:
        tracker.update(frame)
    if device.startswith("cuda") and "torch" in sys.modules:
        found["gpu"] = sys.modules["torch"].cuda.max_memory_allocated(device)
    print(json.dumps(found | {"peak": _peak_of_process()}))


def _peak_of_process() -> int:
    """Returns the most bytes that were resident in this process.

    `ru_maxrss` alone is no use on Linux: a new process inherits that of its parent.
    """
    for line in STATUS.read_text().splitlines() if STATUS.is_file() else ():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
