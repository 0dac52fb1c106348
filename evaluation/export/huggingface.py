"""Writes a tracker as a folder for a model hub, e.g. Hugging Face: weights, description and model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evaluation.errors import UserError
from evaluation.export.model_card import LIBRARY, ModelCard
from evaluation.export.result_beside import result_beside
from evaluation.files import without_nan, write_bytes, write_json
from evaluation.processes.folder_names import checkpoint_name
from pruning.cost import count_macs, count_params
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trackers.checkpoints.reading import FORMAT, read_checkpoint
from trackers.checkpoints.shared_folder import CONFIG, WEIGHTS, checkpoint_file

README = "README.md"
SHARED = ("job", "scale", "ratio", "seed", "stages", "data")  # the rest of a configuration names folders of a machine


def write_huggingface_folder(checkpoint: str | Path, folder: str | Path, licence: str = "unknown") -> Path:
    """Writes `model.safetensors`, `config.json` and, unless there is one, the model card `README.md`.

    The scores come from the `result.json` that a training wrote beside the checkpoint, if it is there. Paths in the
    configuration of the training, which name folders of this machine, are left out.

    Args:
        checkpoint: a file or folder for `load_checkpoint`.
        folder: of the new files. It may exist, e.g. as a clone of a repository of the hub.
        licence: of the weights, as the hub names licences, e.g. "mit" or "cc-by-nc-sa-4.0".

    Returns:
        The folder.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        UserError: the folder is a file.
    """
    source, folder = checkpoint_file(checkpoint), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for {WEIGHTS}, {CONFIG} and {README}")
    loaded = load_checkpoint(source)
    result = result_beside(source)
    metrics = without_nan(loaded.metrics | ({"scores": result["metrics"]} if result else {}))
    shared = Checkpoint(loaded.tracker, loaded.recipe, loaded.plan, metrics, _shared_config(loaded.config))
    half = any(weight.dtype == torch.half for weight in read_checkpoint(source).weights.values())
    shared.save(folder / WEIGHTS, half)
    network = loaded.tracker.network
    card = ModelCard(
        name=checkpoint_name(checkpoint),
        folder=folder.resolve().name,
        model_type=type(loaded.tracker).__name__.lower(),
        family=loaded.tracker.family,
        params=count_params(network),
        macs=count_macs(network, loaded.tracker.frame_inputs()).total,
        scores=metrics.get("scores", {}),
        training=_training(shared.config),
        licence=licence,
    )
    about = {"format": FORMAT, "library_name": LIBRARY, "model_type": card.model_type}
    repeated = {"recipe": shared.recipe, "plan": shared.plan.to_dict(), "metrics": metrics}
    write_json(folder / CONFIG, about | repeated | {"training": shared.config})
    if not (folder / README).exists():
        write_bytes(folder / README, card.text().encode())
    return folder


def _shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of a configuration that name no folder, and the names of the training data in use as "data"."""
    data = config.get("datamodule") or {}
    names = [name for name, source in (data.get("train") or {}).items() if source.get("weight", 1)]
    names = names or [str(data["_target_"]).rpartition(".")[2]] if data else []
    known = dict(config) | ({"data": names} if names else {})
    if "ratio" in config and "stages" in config:  # a child's parent may come from a file, so its stage may not have run
        made = {"parent"} if config["ratio"] == 1 else {"sparsity", "child"}
        known["stages"] = {name: stage for name, stage in config["stages"].items() if name in made}
    return {key: known[key] for key in SHARED if key in known}


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the model card says of a training."""
    job, stages = config.get("job") or {}, config.get("stages") or {}
    steps = ", ".join(f"{name} {stage['steps']:,}" for name, stage in stages.items() if stage.get("steps"))
    words = {"data": ", ".join(config.get("data") or ()), "method of pruning": job.get("method"), "steps": steps}
    known = {"scale": config.get("scale"), "ratio": config.get("ratio"), "seed": config.get("seed")}
    return {name: value for name, value in (known | words).items() if value not in (None, "")}
