"""How Hydra started a command, as plain data, so that no other code needs Hydra's global state."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Invocation:
    """How Hydra started the running job.

    Attributes:
        script: name of the script, without its suffix.
        overrides: what the command line changes in the configuration.
        is_sweep: whether the command has -m.
        job_number: number of the job in its sweep, from 0.
        sweep_folder: folder of the sweep.
        jobs_at_once: jobs that the launcher of a sweep runs on this machine at once.
        logging: Hydra's settings of Python's logging.
        verbose: Hydra's `hydra.verbose`.
        benchmark: the choice of conf/benchmark.
    """

    script: str
    overrides: tuple[str, ...]
    is_sweep: bool
    job_number: int
    sweep_folder: Path
    jobs_at_once: int
    logging: Any
    verbose: Any
    benchmark: str
