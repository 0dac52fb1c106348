"""Restores a network after an error, so that a failing change leaves the network as it was."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def unchanged_on_error(network: nn.Module) -> Iterator[None]:
    """Restores the network if the block raises an error: its modules, their attributes and classes, and all tensors.

    The block may replace tensors and their `data`, but it must not write into them, so no weights are copied.
    """
    modules = [(m, type(m), {key: _copied(value) for key, value in vars(m).items()}) for m in network.modules()]
    tensors = [(t, t.data) for t in (*network.parameters(), *network.buffers())]
    try:
        yield
    except BaseException:
        for module, cls, attributes in modules:
            module.__class__ = cls
            vars(module).clear()
            vars(module).update(attributes)
        for tensor, data in tensors:
            tensor.data = data
        raise


def _copied(value: object) -> object:
    """Returns a shallow copy of a container, and other values themselves."""
    return copy.copy(value) if isinstance(value, dict | list | set) else value
