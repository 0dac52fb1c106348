"""Says in one message why Hydra refuses a command line: it looks for the first wrong argument."""

import traceback
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evaluation.command_line.arguments import describe_unreadable
from evaluation.command_line.choices import describe_choice, describe_combination
from evaluation.command_line.keys import describe_key
from evaluation.command_line.required_keys import describe_missing_keys
from evaluation.command_line.script_keys import ScriptKeys


def describe_error(
    error: Exception, loaders: Sequence[Any], script: str, arguments: Sequence[str], is_sweep: bool
) -> str:
    """Returns a message for an error that Hydra met outside of a job; "" for a fault that deserves its traceback.

    Args:
        error: the error.
        loaders: Hydra's loader of configurations; none if the error is older than the loader.
        script, arguments, is_sweep: see `first_fault`.
    """
    for loader in loaders:
        if message := first_fault(loader, script, arguments, is_sweep):
            return message
    if isinstance(error, MissingConfigException) and (message := describe_combination(error)):
        return message
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_hydras = isinstance(error, ValueError) and frame.f_globals["__name__"].startswith("hydra.")
    if is_hydras or isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        lines = [str(e).strip().partition("\n")[0] for e in (error, cause) if e is not None and str(e).strip()]
        return "; ".join(lines)
    return ""


def first_fault(loader: Any, script: str, arguments: Sequence[str], is_sweep: bool) -> str:
    """Returns words about the first argument that is wrong; "" if none is.

    Args:
        loader: Hydra's loader of configurations.
        script: name of the script.
        arguments: all KEY=VALUE of the command line.
        is_sweep: whether the command has -m, so that a key may have several values.
    """
    overrides: list[Override] = []
    for i, argument in enumerate(arguments):
        try:
            (override,) = OverridesParser.create().parse_overrides([argument])
        except OverrideParseException:
            override = None
        if override is None or not override.key_or_group:
            return describe_unreadable(argument, arguments[i - 1] if i else "", ScriptKeys(loader, script))
        overrides.append(override)
    folders = [str(o.input_line) for o in overrides if o.key_or_group == "hydra.searchpath"]
    keys = ScriptKeys(loader, script, folders)
    chosen = [
        str(o.input_line) for o in overrides if _is_choice(keys, o) and not (o.is_sweep_override() or o.is_delete())
    ]
    keys = ScriptKeys(loader, script, [*folders, *chosen])
    for override in overrides:
        if override.is_sweep_override() and not is_sweep:
            line, other = override.input_line, _as_list(override, script)
            return f"{line} has several values; -m runs a job for each of them: python {script}.py -m {line}{other}"
        describe = describe_choice if _is_choice(keys, override) else describe_key
        if message := describe(override, keys):
            return message
    return _missing(loader, script, arguments)


def _is_choice(keys: ScriptKeys, override: Override) -> bool:
    return bool(keys.choices(override.key_or_group)) and not isinstance(override.value(), dict)


def _as_list(override: Override, script: str) -> str:
    """Returns words about an override whose values may be one list, too; "" for other keys."""
    key, _, values = str(override.input_line).partition("=")
    if (script, key) == ("eval", "checkpoint"):
        return f"; to compare them: 'checkpoint=[{values}]'"
    return f"; a list needs brackets and quotes: '{key}=[{values}]'" if "." in key else ""


def _missing(loader: Any, script: str, arguments: Sequence[str]) -> str:
    """Returns words about required keys without a value; "" if the configuration cannot be composed."""
    try:
        cfg = loader.load_configuration(script, list(arguments), RunMode.MULTIRUN)
    except (HydraException, OmegaConfBaseException, ValueError):
        return ""
    OmegaConf.set_struct(cfg, False)
    return describe_missing_keys(cfg, script)
