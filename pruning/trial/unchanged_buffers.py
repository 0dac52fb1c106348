"""Forwards that leave the buffers of a network as they are, so that two networks can be compared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


def run_unchanged(network: nn.Module, arguments: Mapping[str, Any]) -> Any:
    """Returns the outputs of a network for arguments by name; buffers that its forward updates keep their values."""
    with _unchanged_buffers(network):
        return network(**arguments)


@contextmanager
def _unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Restores all buffers of a network after the block, also those that the network has replaced."""
    before = [(m._buffers, name, b, b.clone()) for m in network.modules() for name, b in _buffers_of(m)]
    try:
        yield
    finally:
        for buffers, name, buffer, values in before:
            buffer.copy_(values)
            buffers[name] = buffer


def _buffers_of(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, buffer) for name, buffer in module._buffers.items() if buffer is not None]
