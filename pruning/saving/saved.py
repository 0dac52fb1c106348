"""Saved children: weights, and a recipe that builds the cut network again without a run of it.

The folder holds `weights.safetensors` and `pruned.json`: the name of the model, its groups and plan as plain data, the
shape of its input, and versions. Nothing in them is executed.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from pruning.errors import PruningError, describe_value
from pruning.groups import Group
from pruning.groups.checks import check_some_groups
from pruning.groups.data import from_data, to_data
from pruning.plan import Plan
from pruning.saving.models import build_model, is_function
from pruning.saving.state_dicts import load_tensors, read_tensors, unique_tensors
from pruning.surgery import compact

FORMAT = 1
RECIPE, WEIGHTS = "pruned.json", "weights.safetensors"
MAX_BYTES = 2**28  # of a recipe; those of large networks have some megabytes


def save_pruned(
    folder: str | Path,
    network: nn.Module,
    groups: Sequence[Group],
    plan: Plan,
    model: str = "",
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Saves a cut network, and returns the folder. Earlier files of a child in this folder are replaced.

    Args:
        folder: a folder, which is made if it does not exist.
        network: the network after the cut.
        groups: its groups before the cut, as `Pruner.groups`.
        plan: the units that it keeps, as `Pruner.plan`.
        model: name by which `load_pruned` builds the uncut network, see `models.build_model`; "" for none.
        about: further plain data to keep.

    Raises:
        PruningError: the groups are those of another network, or the folder cannot be written.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    cut = [g for g in groups if len(plan.units(g)) < g.size]
    _check_is_cut_network(network, cut)
    recipe = {
        "format": FORMAT,
        "model": model,
        **(about or {}),
        "versions": _versions(),
        "plan": {g.name: list(plan.units(g)) for g in cut},
        "groups": [to_data(g) for g in cut],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: t.cpu().contiguous().clone() for n, t in unique_tensors(network).items()}, folder / WEIGHTS)
        (folder / RECIPE).write_text(json.dumps(recipe) + "\n")
    except OSError as error:
        raise PruningError(f"the child cannot be saved in {folder}: {error}; choose another folder") from error
    return folder


def load_pruned(folder: str | Path, network: nn.Module | None = None) -> nn.Module:
    """Returns the cut network that `save_pruned` or `python -m pruning` has saved, on the CPU, in evaluation mode.

    Args:
        folder: the folder.
        network: the uncut network, which is cut in place. Without it, models of timm and torchvision are built by
            name. A file cannot be trusted to name a function, so a network of your own must be given.

    Raises:
        PruningError: the folder holds no such files, a network must be given, or the files do not fit the network.
    """
    folder = Path(folder)
    recipe = _read_recipe(folder)
    model = recipe["model"]
    if network is None:
        if not model or is_function(model):
            function = model.replace(":", ".") if model else "MyNetwork"
            raise PruningError(
                f"{folder} holds a network of your own; give the uncut network: "
                f"load_pruned({str(folder)!r}, {function}())"
            )
        network = build_model(model)
    try:
        groups = check_some_groups(network, [from_data(data) for data in recipe["groups"]])
        compact(network, groups, Plan.from_dict(recipe["plan"]))
    except PruningError as error:
        made = ", ".join(f"{name} {number}" for name, number in recipe["versions"].items())
        raise PruningError(
            f"{folder / RECIPE} does not fit this {type(network).__name__} (it was saved for {model or 'a network'} "
            f"with {made}): {error}"
        ) from error
    load_tensors(network, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return network.eval()


def _check_is_cut_network(network: nn.Module, cut: Sequence[Group]) -> None:
    """Raises an error if no group cuts a tensor of the network, e.g. of a part of the network that was pruned."""
    tensors = dict([*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)])
    modules = {name for name, _ in network.named_modules(remove_duplicate=False) if name}
    paths = [s.path for g in cut for s in g.slices]
    # A convolution without inputs has lost its weight, and stands at its place as a `Constant`.
    if paths and not any(path in tensors or path.rpartition(".")[0] in modules for path in paths):
        raise PruningError(
            f"this {type(network).__name__} is not the network that was pruned: the groups cut {paths[0]!r}, which "
            "it does not have; give the network that was attached, e.g. the whole LightningModule"
        )


def _read_recipe(folder: Path) -> dict[str, Any]:
    """Returns the content of `pruned.json`, with the types that it must have."""
    path = folder / RECIPE
    if not path.is_file():
        raise PruningError(
            f"there is no file {path}; give the folder of a child, which `python -m pruning resnet18 --ratio 0.5` makes"
        )
    if path.stat().st_size > MAX_BYTES:
        raise PruningError(f"{path} has {path.stat().st_size} bytes, more than any recipe; it is no recipe of a child")
    try:
        recipe = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise PruningError(f"{path} is no JSON: {error}; save the child again") from error
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT:
        found = recipe.get("format") if isinstance(recipe, dict) else recipe
        raise PruningError(f"{path} has the format {describe_value(found):.80}; this version reads {FORMAT}")
    for key, kind in {"model": str, "versions": dict, "plan": dict, "groups": list}.items():
        if not isinstance(recipe.get(key), kind):
            raise PruningError(f"{path}: {key!r} must be a {kind.__name__}, not {describe_value(recipe.get(key)):.80}")
    return recipe


def _versions() -> dict[str, str]:
    """Returns the versions of the installed packages that a network may depend on."""
    versions = {}
    for name in ("torch", "timm", "torchvision", "light-weight-trackers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
