"""Reading of checkpoint files: safetensors of this project or of timm, and official pickles, known by their content."""

import reprlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pruning.errors import PruningError
from pruning.plan import Plan
from trackers.checkpoints.official_files import is_backbone, read_official
from trackers.checkpoints.recipes import check_recipe
from trackers.checkpoints.shared_folder import check_config, checkpoint_file, read_mapping
from trackers.contents import CheckpointContents
from trackers.errors import CheckpointError, TrackerError

FORMAT = "light-weight-trackers/1"
ADVICE = "give a file of train.py or prune.py, an official one, or the folder of an export: checkpoint=FILE"
MAX_HEADER = 8 * 2**20  # bytes: the plan of a ViT-g takes a quarter of it


def read_header(path: str | Path) -> CheckpointContents:
    """Returns the contents of a file without the values of its weights, which costs little time and memory.

    Args:
        path: a .safetensors file of `Checkpoint.save`, a folder with such a file (see `shared_folder.py`), or an
            official checkpoint.

    Returns:
        The contents. `weights` is empty for a .safetensors file, and on the `meta` device for an official checkpoint.

    Raises:
        CheckpointError: the file does not exist, cannot be read, is not a checkpoint, or holds a recipe that
            `check_recipe` refuses.
    """
    return _read(path, "meta")


def read_checkpoint(path: str | Path) -> CheckpointContents:
    """Returns the contents of a file with all weights; see `read_header` for the argument and the errors."""
    return _read(path, "cpu")


def recipe_in(contents: CheckpointContents, path: str | Path) -> dict[str, Any]:
    """Returns the recipe that builds the tracker of a file.

    Raises:
        CheckpointError: the file holds a pretrained backbone and no tracker.
    """
    if contents.recipe is None:
        raise CheckpointError(
            f"{path} holds a pretrained backbone and no tracker; start a training from it: "
            f"python train.py scale=full checkpoint={path}"
        )
    return contents.recipe


def _similar_file(path: Path) -> Path | None:
    """Returns the file that a wrong path may stand for: the checkpoint in a folder of a job, or a similar name."""
    if path.is_dir():
        return file if (file := path / "checkpoint.safetensors").is_file() else None
    try:
        names = [file.name for file in path.parent.iterdir() if file.is_file()]
    except OSError:
        return None
    return next((path.with_name(name) for name in get_close_matches(path.name, names, 1, 0.8)), None)


def _read(path: str | Path, device: str) -> CheckpointContents:
    path = checkpoint_file(path)
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no checkpoint"
            advice = f"did you mean {found}?" if (found := _similar_file(path)) else ADVICE
            raise CheckpointError(f"{kind} at {path.absolute()}; {advice}")
        with path.open("rb") as file:
            start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        is_safetensors = start[8:] == b"{" and length < path.stat().st_size
        if is_safetensors and length > MAX_HEADER:
            raise CheckpointError(
                f"{path} has a header of {length:,} bytes; the largest that is read has {MAX_HEADER:,}"
            )
        contents = _read_safetensors(path, device) if is_safetensors else read_official(path, device)
        check_config(path, contents)
        return contents
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its rights and its name") from error


def _read_safetensors(path: Path, device: str) -> CheckpointContents:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            foreign = header.get("format") != FORMAT and is_backbone(file.keys())  # e.g. a file of timm
            contents = CheckpointContents({}) if foreign else _contents_of_header(header, path)
            names = file.keys() if device == "cpu" else ()
            # A copy lies at a multiple of 64 bytes. In the memory of the file, the length of the header decides where a
            # weight lies, and kernels round differently there: the length of a path would change results.
            contents.weights = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise CheckpointError(f"{path} is a damaged safetensors file ({error}); copy it again") from None
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read: its weights do not fit in memory ({error})") from error
    return contents


def _contents_of_header(header: dict[str, str], path: Path) -> CheckpointContents:
    """Returns the contents of a file without its weights."""
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds weights but no recipe of {FORMAT} (found {reprlib.repr(header.get('format'))}); "
            "pass a file that train.py or prune.py wrote"
        )
    try:
        recipe, plan, metrics, config = (_field(header, name) for name in ("recipe", "plan", "metrics", "config"))
        check_recipe(recipe)
        return CheckpointContents({}, recipe, Plan.from_dict(plan), metrics=metrics, config=config)
    except (TrackerError, PruningError) as error:
        raise CheckpointError(f"the header of {path} cannot be used: {error}") from None


def _field(header: dict[str, str], name: str) -> dict[str, Any]:
    """Returns the mapping that a field of the header holds as JSON."""
    if name not in header:
        raise CheckpointError(f"it has no field '{name}'; pass a file that train.py or prune.py wrote")
    try:
        return read_mapping(header[name])
    except CheckpointError as error:
        raise CheckpointError(f"its field '{name}' {error}") from None
