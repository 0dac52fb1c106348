"""The steps of `python -m pruning`: build, find groups, cut, compare, save."""

import copy
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.arguments import first_argument
from pruning.command_line.report import table_of_costs, table_of_groups
from pruning.cost import count_macs, count_params
from pruning.cost.turns import time_in_turns
from pruning.criteria import Magnitude, Random
from pruning.discovery.finding import find_groups
from pruning.discovery.reasons import lines_of_whole, no_groups_error
from pruning.errors import PruningError, first_line
from pruning.pruner import Pruner
from pruning.saving.models import build_model, input_shape, is_function
from pruning.saving.saved import save_pruned
from pruning.saving.state_dicts import load_tensors, read_tensors

SECONDS = 3.0  # after which no further round of timing starts
DRAWS = 3  # inputs on which the masked and the cut network are compared


def prune(options: Namespace) -> None:
    """Prunes the network that the options name, prints what was done and saves the child.

    Raises:
        PruningError: an option does not fit the network, or the network cannot be pruned.
    """
    if options.ratio == 1:
        raise PruningError("--ratio 1 keeps the whole network; give the fraction to keep, e.g. --ratio 0.5")
    console, progress = Console(), Console(stderr=True)
    pruner = Pruner(
        ratio=options.ratio,
        criterion={"magnitude": Magnitude, "random": Random}[options.criterion](),
        ratio_of=options.ratio_of,
        protect=options.protect,
        round_to=options.round_to,
        floor=options.floor,
        device=options.device,
    )
    folder = options.output or Path("pruned", f"{options.model.replace(':', '_')}_{options.ratio:g}")
    _check_early(folder, options.device)
    torch.manual_seed(0)
    with progress.status(f"building {options.model}"):
        network = build_model(options.model)
    if options.weights is not None:
        load_tensors(network, read_tensors(options.weights), options.weights)
    elif not is_function(options.model):
        progress.print("the weights are random, as for any new network; --weights FILE gives it trained ones")
    draws = _draws(network, options.input or input_shape(network))
    _check_forward(network, draws[0])
    parent = copy.deepcopy(network)
    with progress.status("finding groups"):
        found = find_groups(network, lambda _: draws[0])
    if not found.groups:
        raise no_groups_error(options.model, found.whole)
    with progress.status("cutting"):
        pruner.attach(network, found.groups, lambda _: draws[0])
        pruner.update()
        report = pruner.finish(draws)
    console.print(table_of_groups(found.groups, pruner.kept_counts()))
    console.print(f"{found.share:.1%} of the parameters belong to a group. Left whole, by reason:")
    for line in lines_of_whole(found.whole):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    with progress.status("timing parent and child in turns"):
        costs, rounds = _costs([parent, network], draws[0], options.device)
    console.print(table_of_costs(costs))
    console.print(
        f"milliseconds: medians of {rounds} turns on {options.device}, eager, {torch.get_num_threads()} CPU threads",
        highlight=False,
    )
    difference = f"outputs differ by {report['masked_vs_compacted']:.1e} of the largest output"
    if not _depends_on_input(network, draws):
        difference = "with these weights the output does not depend on the input, so the comparison says nothing"
    console.print(f"masked against cut: {difference}", soft_wrap=True)
    (shape,) = (x.shape for x in draws[0].values())
    about = {"input": list(shape), "parent and child": costs}
    save_pruned(folder, network, pruner.groups, pruner.plan, options.model, about)
    console.print(f"saved in {folder}", markup=False, highlight=False, soft_wrap=True)


def _check_early(folder: Path, device: str) -> None:
    """Makes the output folder and uses the device, before the work that takes long.

    Raises:
        PruningError: the folder cannot be made, or the device cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PruningError(f"--output {folder} cannot be made: {error}; e.g. --output child") from error
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, no such GPU, a build without CUDA
        raise PruningError(f"--device {device} cannot be used ({first_line(error)}); e.g. --device cpu") from error


def _draws(network: nn.Module, shape: Sequence[int]) -> list[dict[str, Tensor]]:
    """Returns random arguments of a forward, by name."""
    return [{first_argument(network): torch.randn(shape)} for _ in range(DRAWS)]


def _check_forward(network: nn.Module, draw: Mapping[str, Tensor]) -> None:
    """Runs the network once.

    Raises:
        PruningError: the network does not run.
    """
    try:
        with torch.inference_mode():
            network(**draw)
    except Exception as error:  # of any kind: the network is the user's
        ((name, x),) = draw.items()
        raise PruningError(
            f"{type(network).__name__} does not run with a float tensor {name} of shape {tuple(x.shape)}: "
            f"{first_line(error)}; give the shape that it takes by --input, or prune it in Python, where "
            "find_groups(network, inputs) takes any arguments, e.g. integers or several tensors"
        ) from error


def _depends_on_input(network: nn.Module, draws: Sequence[Mapping[str, Tensor]]) -> bool:
    """Returns whether outputs differ between draws. They do not if e.g. a new classifier starts with zeros."""
    with torch.inference_mode():
        outputs = [[x for x in tree_leaves(network(**draw)) if isinstance(x, Tensor)] for draw in draws]
    return any(not torch.equal(x, y) for other in outputs[1:] for x, y in zip(outputs[0], other, strict=True))


def _costs(networks: Sequence[nn.Module], draw: Mapping[str, Tensor], device: str) -> tuple[dict[str, list[Any]], int]:
    """Returns parameters, MACs and milliseconds of the networks, and how often they were timed."""
    placed = [copy.deepcopy(n).to(device).eval() for n in networks]
    arguments = {name: x.to(device) for name, x in draw.items()}
    calls = {i: partial(n, **arguments) for i, n in enumerate(placed)}
    times = list(time_in_turns(calls, device, SECONDS).values())
    counts: dict[str, list[Any]] = {
        "parameters": [count_params(n) for n in networks],
        "MACs": [count_macs(n, draw).total for n in networks],
    }
    return counts | {"milliseconds": [1e3 * float(np.median(own)) for own in times]}, len(times[0])
