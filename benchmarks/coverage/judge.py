"""What the benchmark itself finds out about a cut network, whoever cut it."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

SAME = 1e-6  # float64: rounding stays far below


def tensors(outputs: Any) -> list[Tensor]:
    """Returns the tensors of the outputs of a network."""
    return [t for t in tree_leaves(outputs) if isinstance(t, Tensor)]


def difference(reference: Any, outputs: Any) -> float:
    """Returns the largest difference of all outputs, relative to the largest reference; infinite for other shapes."""
    pairs = tensors(reference), tensors(outputs)
    if [t.shape for t in pairs[0]] != [t.shape for t in pairs[1]]:
        return float("inf")
    return max(float((o - r).abs().max() / r.abs().max().clamp_min(1e-300)) for r, o in zip(*pairs, strict=True))


@torch.no_grad()
def depends_on_input(network: nn.Module, images: Tensor) -> bool:
    """Returns whether the outputs of two images differ, which tells a network from its last bias."""
    return all(float((t[0] - t[1]).abs().max()) > 1e-9 * float(t.abs().max()) for t in tensors(network(images)))


def failure_after_cut(cut: nn.Module, images: Tensor) -> str | None:
    """Returns what a user of the cut network could not do: train, copy, save and load it; None if all goes well."""
    with torch.no_grad():
        before = cut(images)
    for what, remake in (("deepcopy", copy.deepcopy), ("pickle", lambda n: pickle.loads(pickle.dumps(n)))):
        try:
            again = remake(cut)
            again.load_state_dict(cut.state_dict())
            with torch.no_grad():
                error = difference(before, again(images))
        except Exception as fault:
            return f"{what}: {reason(fault)}"
        if error > SAME:
            return f"{what}: the outputs differ by {error:.0e}"
    try:
        return _failure_of_step(cut, images)
    except Exception as fault:
        return f"training: {reason(fault)}"


def _failure_of_step(cut: nn.Module, images: Tensor) -> str | None:
    cut = copy.deepcopy(cut).train().requires_grad_(True)
    sum(t.square().mean() for t in tensors(cut(images))).backward()
    gradients = {name: p.grad for name, p in cut.named_parameters() if p.grad is not None}
    if not gradients:
        return "training: no parameter has a gradient"
    if wrong := [name for name, g in gradients.items() if not g.isfinite().all()]:
        return f"training: the gradient of {wrong[0]} is not finite"
    torch.optim.SGD(cut.parameters(), 1e-9).step()
    with torch.no_grad():
        finite = all(bool(t.isfinite().all()) for t in tensors(cut.eval()(images)))
    return None if finite else "training: the outputs are not finite after a step"


def failure_of_export(cut: nn.Module, images: Tensor) -> str | None:
    """Returns why torch.export gives no program with the same outputs, or None."""
    try:
        with torch.no_grad():
            program = torch.export.export(cut, (images,)).module()
            error = difference(cut(images), program(images))
    except Exception as fault:
        return f"export: {reason(fault)}"
    return None if error <= SAME else f"export: the outputs differ by {error:.0e}"


def reason(fault: BaseException, words: Sequence[str] = ()) -> str:
    """Returns the type and the first line of the text of an error."""
    lines = str(fault).strip().splitlines() or [""]
    return " ".join([type(fault).__name__ + ":", lines[0][:300], *words]).strip()
