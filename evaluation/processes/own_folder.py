"""A folder of its own for every command, also for two commands that start in the same second."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from evaluation.processes.command_state import command_state
from evaluation.processes.folder_names import register_resolvers
from evaluation.processes.repeated_command import is_repetition
from evaluation.processes.shell_command import folder_override
from evaluation.processes.user_errors import message_of, shows_all_tracebacks

register_resolvers()  # every process that runs jobs imports this module, before Hydra creates their folders


class OwnFolder(Callback):
    """Creates the folder of a job or of a sweep, and takes another name if the folder exists.

    This holds for folders whose name contains the time (`${now:...}`). A folder that the command line names is used
    as it is, so that a command can continue what is in it.

    If torchrun or Slurm runs the command once for each process of a job, only the first process gets such a folder.
    The others cannot know its name, and have nothing to keep: they work in temporary folders. So does a dry run.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Creates the folder of a job."""
        _create(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Creates the folder of a sweep."""
        _create(config, "sweep")


def _create(config: DictConfig, mode: str) -> None:
    """Creates the folder `hydra.<mode>.dir`.

    Raises:
        SystemExit: it cannot be created. Hydra would ignore other errors here, and fail with a traceback later.
    """
    try:
        _create_folder(config, mode)
    except OSError as error:
        if shows_all_tracebacks():
            raise
        reason = message_of(error) or f"{error.strerror}: {error.filename}; choose another folder"
        raise SystemExit(f"error: hydra.{mode}.dir={config.hydra[mode].dir} cannot be created: {reason}") from None


def _create_folder(config: DictConfig, mode: str) -> None:
    """Creates `hydra.<mode>.dir` as a new folder, and changes the configuration if that is another one."""
    settings: Any = OmegaConf.to_container(config.hydra[mode], resolve=False)
    wanted, is_new = Path(config.hydra[mode].dir), "${now:" in settings["dir"]
    if config.get("dry_run") or (is_new and is_repetition()):
        folder = Path(tempfile.mkdtemp(prefix="dry_run" if config.get("dry_run") else "rank"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    elif is_new:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        folder = next(path for path in _names(wanted) if _is_created(path))
    else:
        wanted.mkdir(parents=True, exist_ok=True)
        folder = wanted
    override = folder_override(mode, folder)
    if not config.get("dry_run"):
        command_state.folder = override
    if folder == wanted and not is_new:
        return
    with read_write(config), open_dict(config):
        config.hydra[mode].dir = str(folder)
        # Jobs of a sweep compose their configuration again, from the overrides alone.
        given = [o for o in config.hydra.overrides.hydra if not o.startswith(f"hydra.{mode}.dir=")]
        config.hydra.overrides.hydra = [*given, override]


def _names(folder: Path) -> Iterator[Path]:
    """Yields the folder, then the folder with _2, _3, ... behind its name."""
    yield folder
    for i in count(2):
        yield folder.with_name(f"{folder.name}_{i}")


def _is_created(folder: Path) -> bool:
    """Creates a folder, and returns False if it exists: of several processes one alone gets True."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
