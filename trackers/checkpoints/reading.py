"""Reading of checkpoint files: safetensors of this project or official pickles, recognised by their content."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, float16

from pruning.plan import Plan
from trackers.checkpoints.official_files import read_official
from trackers.contents import CheckpointContents, CheckpointError

FORMAT = "light-weight-trackers/1"


def read_header(path: str | Path) -> CheckpointContents:
    """Returns the contents of a file without the values of its weights, which costs little time and memory.

    Args:
        path: a .safetensors file of `Checkpoint.save`, or an official checkpoint.

    Returns:
        The contents. `weights` is empty for a .safetensors file, and on the `meta` device for an official checkpoint.

    Raises:
        CheckpointError: the file does not exist or is not a checkpoint.
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


def _read(path: str | Path, device: str) -> CheckpointContents:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path.absolute()}; give a file of train.py or prune.py, or an official one"
        )
    with path.open("rb") as file:
        start = file.read(9)
    is_safetensors = start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    return _read_safetensors(path, device) if is_safetensors else read_official(path, device)


def _read_safetensors(path: Path, device: str) -> CheckpointContents:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            names = file.keys() if device == "cpu" else ()
            # A copy lies at a multiple of 64 bytes. In the memory of the file, the length of the header decides where a
            # weight lies, and kernels round differently there: the length of a path would change results.
            weights = {name: _to_single(file.get_tensor(name).clone()) for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged safetensors file ({error}); copy it again") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds weights but no recipe of {FORMAT} (found {header.get('format')!r}); "
            "pass a file that train.py or prune.py wrote"
        )
    recipe, plan, metrics, config = (json.loads(header[k]) for k in ("recipe", "plan", "metrics", "config"))
    return CheckpointContents(weights, recipe, Plan.from_dict(plan), metrics=metrics, config=config)


def _to_single(weight: Tensor) -> Tensor:
    """Converts half precision to single precision, in which trackers compute; returns other types unchanged."""
    return weight.float() if weight.dtype == float16 else weight
