"""Messages about choices: names of files in the groups of conf/."""

from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException

from evaluation.command_line.keys import describe_foreign
from evaluation.command_line.script_keys import ScriptKeys
from evaluation.command_line.suggestions import did_you_mean


def describe_choice(override: Override, keys: ScriptKeys) -> str:
    """Returns words about a choice that does not exist, or of a group that the script does not have; "" if it fits."""
    group = override.key_or_group
    if override.package is None and not override.is_add() and group not in keys.groups:
        return describe_foreign(override, keys)
    if override.is_delete():
        return ""
    known = keys.choices(group)
    values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    for value in values:
        name = "null" if value is None else str(value)
        if isinstance(value, list):
            names = ",".join(map(str, value))
            return f"{override.input_line} names several choices; -m runs a job for each of them: -m {group}={names}"
        if value is None and group == "fake_data":
            return f"{override.input_line} is no choice; ~{group} leaves {group} out"
        if value is None and keys.groups.get(group, "") is None:
            return f"{override.input_line} is no choice; leave it out, as no {group} is the default"
        if name not in known and not _is_nested(keys, group, name):
            return f"{group}={name} is no choice; {did_you_mean(name, known) or _listed(known)}"
    return ""


def describe_combination(error: MissingConfigException) -> str:
    """Returns words about two choices that do not go together, e.g. a tracker without a scale; "" for other errors."""
    missing = str(error.missing_cfg_file)
    group, _, name = missing.rpartition("/")
    if group != "tracker/scale":
        return ""
    tracker, _, scale = name.rpartition("_")
    scales = [o.removeprefix(f"{tracker}_") for o in error.options or () if o.rpartition("_")[0] == tracker]
    if not scales:
        return f"tracker={tracker} has no file of sizes; write conf/{missing}.yaml, see docs/adding-a-tracker.md"
    return f"tracker={tracker} has no scale={scale}; choose scale={' or scale='.join(scales)}"


def _is_nested(keys: ScriptKeys, group: str, name: str) -> bool:
    """Returns whether a choice such as icassp2023/dimp lies in a folder of its group."""
    folder, _, file = name.rpartition("/")
    return bool(folder) and file in keys.choices(f"{group}/{folder}")


def _listed(names: list[str]) -> str:
    return f"choose one of {', '.join(names)}"
