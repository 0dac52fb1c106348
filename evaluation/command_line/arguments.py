"""Messages about arguments that Hydra cannot read as KEY=VALUE."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.command_line.script_keys import ScriptKeys
from evaluation.command_line.suggestions import did_you_mean

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".pkl")
OPENCV = "tracker=opencv_"  # start of an argument that names a tracker of OpenCV
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def with_checkpoint_of_opencv(script: str, arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of eval.py with `checkpoint=opencv_NAME` in the place of `tracker=opencv_NAME`.

    Raises:
        SystemExit: there is another checkpoint, too.
    """
    given = [argument for argument in arguments if argument.startswith(OPENCV)]
    if script != "eval" or not given:
        return list(arguments)
    others = [argument for argument in arguments if argument.startswith("checkpoint=")]
    names = [argument.removeprefix("tracker=") for argument in given]
    if len(given) > 1 or others:
        listed = ",".join([*(other.removeprefix("checkpoint=").strip("[]") for other in others), *names])
        raise SystemExit(
            f"error: {' and '.join([*others, *given])} name several trackers; checkpoint=[{listed}] compares them"
        )
    return [f"checkpoint={names[0]}" if argument in given else argument for argument in arguments]


def describe_unreadable(argument: str, before: str, keys: ScriptKeys) -> str:
    """Returns words about an argument that Hydra cannot read, with an argument that works.

    Args:
        argument: the argument.
        before: the argument before it, which may be the start of a value with blanks; "" if there is none.
        keys: keys of the script.
    """
    if argument != argument.strip():
        return f"{argument!r} has blanks around it; write {argument.strip()}"
    key, mark, value = argument.partition("=")
    if mark and key:
        if value.endswith((",", ";")):
            return f"{argument} ends with {value[-1]}; write {key}={value.rstrip(',;')}"
        if value.startswith("="):
            return f"{argument} has two =; write {key}={value.lstrip('=')}"
        if value.startswith("~"):
            home = Path(value).expanduser()
            return f"{argument} has a ~, which the shell replaces at the start of a word alone; write {key}={home}"
        return f"the value in {argument} cannot be read; quote it: \"{key}='{value}'\""
    if argument == "=" or not key:
        return f"{argument} has no key; write KEY=VALUE without blanks, e.g. ratio=0.25"
    if argument.endswith(CHECKPOINTS):
        return f"{argument} has no key; write checkpoint={argument}"
    if argument.endswith(VIDEOS):
        return (
            f"{argument} has no key; eval.py follows an object through a video by action=video source={argument}, and "
            f"scores one by benchmark=folder benchmark.sequences.root={argument}"
        )
    name, colon, rest = argument.partition(":")
    if colon and keys.has(name):
        return f"{argument} has no =; write {name}={rest}"
    if argument in keys.all():
        return f"{argument} has no value; write {argument}=VALUE without blanks around ="
    if hint := did_you_mean(argument, keys.all()):
        return f"{argument} is no KEY=VALUE, e.g. ratio=0.25; {hint}"
    name, mark, start = before.partition("=")
    if mark and not start:
        return f"{before} {argument} has a blank behind =; write {before}{argument}"
    quoted = f"; a value with blanks needs quotes: \"{name}='{start} {argument}'\"" if mark else ""
    return f"{argument} is no KEY=VALUE, e.g. ratio=0.25{quoted}"
