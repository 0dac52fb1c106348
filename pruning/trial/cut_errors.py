"""Errors of a cut network: why it fails, in which module, and which declaration is missing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from pruning.errors import first_line
from pruning.groups import Group
from pruning.plan import Plan
from pruning.trial.layer_sizes import explain_failure, undeclared_tensors

COMPLETE = (
    "Every tensor whose size follows from the number of units must be a slice of the group, layers whose outputs are "
    "added share one group, and the code must not contain the number"
)


class CutError(Exception):
    """Reason why a cut network fails. The caller adds which groups were cut."""


@contextmanager
def naming_modules(network: nn.Module, groups: Sequence[Group], plan: Plan) -> Iterator[None]:
    """Turns an error in a forward of a cut network into a `CutError` that names the module.

    Args:
        network: the cut network.
        groups: the groups of the uncut network.
        plan: the cut.
    """
    running: list[tuple[str, nn.Module, tuple]] = [("", network, ())]
    hooks = []
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it takes no hooks

        def enter(module: nn.Module, arguments: tuple, path: str = path) -> None:
            running.append((path, module, arguments))

        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield
    except Exception as error:
        path, module, arguments = running[-1]
        name = f"'{path}' ({type(module).__name__})" if path else f"the forward of {type(network).__name__}"
        reason = explain_failure(path, module, arguments, groups, plan)
        if reason:
            raise CutError(f"{name} fails: {reason}") from error
        hint = undeclared_tensors(path, module, groups, plan) or COMPLETE
        raise CutError(f"{name} fails with {first_line(error)}. {hint}") from error
    finally:
        for hook in hooks:
            hook.remove()
