"""The entry of train.py, prune.py and eval.py: Hydra's main function, with one message for each wrong command line."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

import hydra
from hydra._internal import utils
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from evaluation.command_line.arguments import with_checkpoint_of_opencv
from evaluation.command_line.boxes import with_brackets
from evaluation.command_line.diagnosis import describe_error
from evaluation.command_line.required_keys import describe_missing_keys
from evaluation.command_line.unread_keys import describe_unread_key
from evaluation.processes.command_state import command_state

Task = Callable[[DictConfig], Any]


def command(script: str) -> Callable[[Task], Callable[[], None]]:
    """Returns a decorator that makes a job the main function of a script.

    Args:
        script: name of the script and of its file in conf/, e.g. "train".
    """

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def checked_task(cfg: DictConfig) -> Any:
            _check_keys(script, cfg)
            return task(cfg)

        main = hydra.main(version_base="1.3", config_path="conf", config_name=script)(checked_task)

        @wraps(task)
        def run() -> None:
            arguments = _arranged([with_brackets(argument) for argument in sys.argv[1:]])
            sys.argv[1:] = with_checkpoint_of_opencv(script, arguments)
            with _messages_for_errors(script, checked_task):
                main()

        return run

    return decorate


def _check_keys(script: str, cfg: DictConfig) -> None:
    """Ends the command, or the job of a sweep alone, with one message if a key is missing, or if nothing reads a key.

    Raises:
        SystemExit: a key is missing or is not read.
        UserError: so in a job of a sweep; the other jobs go on.
    """
    message = _describe_lists(script, cfg) or describe_missing_keys(cfg, script) or describe_unread_key(script, cfg)
    if not message:
        return
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from evaluation.errors import UserError  # imports torch, which a command that ends here can do without

        raise UserError(message)
    raise SystemExit(f"error: {message}")


def _describe_lists(script: str, cfg: DictConfig) -> str:
    """Returns words about a group of which several files were chosen, which Hydra merges into one section; else ""."""
    for override in HydraConfig.get().overrides.task:
        key, _, value = override.partition("=")
        if value.startswith("[") and isinstance(cfg.get(key), DictConfig):
            one = f"{key}={value.strip('[]')}"
            return f"{override} names several choices; -m runs a job for each of them: python {script}.py -m {one}"
    return ""


def _arranged(arguments: list[str]) -> list[str]:
    """Returns the arguments with all KEY=VALUE in front: Hydra takes none after an option such as -m.

    Raises:
        SystemExit: an argument is an option that Hydra does not have, e.g. --ratio=0.5.
    """
    parser = utils.get_args_parser()
    setattr(parser, "error", _refuse)  # noqa: B010 (argparse would print all options in nine lines)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        key, _, value = unknown[0].lstrip("-").partition("=")
        raise SystemExit(f"error: {unknown[0]} is no option; keys have no dashes: {key}={value or 'VALUE'}")
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    return [*options.overrides, *flags]


def _refuse(message: str) -> NoReturn:
    raise SystemExit(f"error: {message}; --help lists what the command takes")


@contextmanager
def _messages_for_errors(script: str, task: Task) -> Iterator[None]:
    """Ends with one message where Hydra would print several lines or a traceback. Faults within jobs stay as they are.

    Hydra reports most errors in one function, which ends the process. Others leave `hydra.main` as exceptions.
    """
    report = utils.run_and_report
    loaders: list[Any] = []  # Hydra's loader of configurations, as soon as there is one

    def stop_with_message(error: Exception) -> None:
        frames = traceback.walk_tb(error.__traceback__)
        in_job = any(frame.f_code is task.__code__ for frame, _ in frames)
        if in_job or utils._is_env_set("HYDRA_FULL_ERROR"):
            return
        options = utils.get_args_parser().parse_args()
        if message := describe_error(error, loaders, script, options.overrides, options.multirun):
            command_state.begin_command()  # the same command would end so again, so no words say how it goes on
            raise SystemExit(f"error: {message}") from None

    def run_and_report(func: Callable[[], Any]) -> Any:
        def explained_work() -> Any:
            try:
                return func()
            except Exception as error:
                stop_with_message(error)
                raise

        result = report(explained_work)
        if isinstance(result, Hydra):  # Hydra creates it in this function, too
            loaders.append(result.config_loader)
        return result

    utils.run_and_report = run_and_report
    try:
        yield
    except Exception as error:
        stop_with_message(error)
        raise
    finally:
        utils.run_and_report = report
