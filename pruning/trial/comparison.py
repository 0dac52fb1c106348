"""Comparison of the outputs of a masked network and of the cut network."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pruning.errors import PruningError

# Largest difference, relative to the largest output, that float rounding can explain.
TOLERANCE = 1e-3


def difference(masked: Any, cut: Any) -> Tensor:
    """Returns the largest difference of all outputs, each relative to its largest entry; nan if an output has a nan.

    Args:
        masked, cut: outputs of both networks: tensors, or mappings, sequences and dataclasses of tensors.

    Raises:
        PruningError: the outputs contain no tensors, or the shape of an output depends on the number of kept units.
    """
    pairs = [_tensors(outputs) for outputs in (masked, cut)]
    shapes = [[tuple(t.shape) for t in tensors] for tensors in pairs]
    if not pairs[0]:
        raise PruningError(
            f"the network returns no tensors but a {type(masked).__name__}, so the masked and cut network cannot be "
            "compared; return a tensor, or a tuple, a list, a dictionary or a dataclass of tensors"
        )
    if shapes[0] != shapes[1]:
        raise PruningError(
            f"the outputs have the shapes {shapes[0]} while units are masked, but {shapes[1]} once they are cut; leave "
            "the group of the units that the network returns out of the pruning"
        )
    differences = []
    for reference, output in zip(*pairs, strict=True):
        if reference.numel():
            scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)  # 0 / tiny: equal zeros
            differences.append(((output - reference).abs().max() / scale).float())
    return torch.stack(differences).max() if differences else torch.zeros(())


def are_finite(outputs: Any) -> bool:
    """Returns whether all tensors among the outputs are finite."""
    return all(bool(t.isfinite().all()) for t in _tensors(outputs))


def output_leaves(outputs: Any) -> Iterator[Any]:
    """Yields what outputs contain: entries of mappings and sequences, and fields of dataclasses."""
    for leaf in tree_leaves(outputs):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            yield from output_leaves([getattr(leaf, field.name) for field in fields(leaf)])
        else:
            yield leaf


def _tensors(outputs: Any) -> list[Tensor]:
    """Returns the tensors among the outputs; integers and booleans as floating-point numbers."""
    tensors = [leaf for leaf in output_leaves(outputs) if isinstance(leaf, Tensor)]
    return [t if t.is_floating_point() or t.is_complex() else t.float() for t in tensors]
