"""The running command as text for a shell: as the user gave it, and such that it goes on in its folder."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

PLAIN = re.compile(r"[\w./+@%-]+", re.ASCII)  # values that need no quotes in an override of Hydra
SPECIAL = re.compile(r"""["$`\\!\n]""")  # characters that keep a meaning in double quotes
FORCE = re.compile(r"\+{0,2}force=", re.IGNORECASE)
FOLDERS = ("hydra.run.dir=", "hydra.sweep.dir=")


def folder_override(mode: str, folder: str | Path) -> str:
    """Returns the override that makes a folder the one of a job or of a sweep.

    Args:
        mode: "run" for a job, "sweep" for a sweep.
        folder: path of the folder.
    """
    return f"hydra.{mode}.dir={hydra_value(str(folder))}"


def hydra_value(text: str) -> str:
    """Returns a text as a value in Hydra's grammar, in which spaces, commas and others have a meaning."""
    if PLAIN.fullmatch(text):
        return text
    # Hydra reads two backslashes as one only before a quote, so also at the end.
    return "'{}'".format(re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text))


def shell_line(words: Iterable[str]) -> str:
    """Returns words as one line for a shell, like `shlex.join`; but a word with single quotes gets double quotes."""
    return " ".join(f'"{word}"' if "'" in word and not SPECIAL.search(word) else shlex.quote(word) for word in words)


def given_command(arguments: Sequence[str]) -> str:
    """Returns the running command as its user gave it, quoted for a shell.

    Args:
        arguments: of the command, as in `sys.argv`.
    """
    script, *others = arguments
    return shell_line([*_program(script), *others])


def resume_command(arguments: Sequence[str], folder: str = "") -> str:
    """Returns the running command, quoted for a shell, without `force=...`, which would begin again.

    Args:
        arguments: see `given_command`.
        folder: see `folder_override`; "" if the command has no folder yet.
    """
    words = [word for word in _with_launcher(*arguments) if not FORCE.match(word)]
    if folder:
        words = [word for word in words if not word.startswith(FOLDERS)] + [folder]
    return shell_line(words)


def _with_launcher(script: str, *arguments: str) -> list[str]:
    """Returns the words of the running command, with the launcher that runs it once for each process of a job."""
    words = _program(script)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _command_of_torchrun() or ["torchrun", script, *arguments]
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return ["srun", *words, *arguments]
    return [*words, *arguments]


def _program(script: str) -> list[str]:
    return ["python", script] if script.endswith(".py") else [Path(script).name]


def _command_of_torchrun() -> list[str]:
    """Returns the command of the process that has started this one; [] where the system does not tell."""
    try:
        program, *words = Path(f"/proc/{os.getppid()}/cmdline").read_text().rstrip("\0").split("\0")
    except (OSError, ValueError):
        return []
    # torchrun is a script of Python, so its process is `python .../bin/torchrun ...`.
    is_script = bool(words) and Path(words[0]).name == "torchrun"
    return ["torchrun", *words[1:]] if is_script else ["python", *words] if "python" in Path(program).name else []
