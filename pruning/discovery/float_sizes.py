"""Sizes that become floating-point numbers while a network runs, as in `q.shape[-1] ** -0.5`.

A cut changes such a number, but nothing tells what becomes of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_listeners: list[Callable[["NotedInt"], None]] = []


class NotedInt(int):
    """An integer that tells when it becomes a floating-point number: by a square root, a power or a division."""

    def __float__(self) -> float:
        _tell(self)
        return int.__float__(self)

    def __pow__(self, exponent: Any, modulo: Any = None) -> Any:
        if isinstance(exponent, int) and (exponent >= 0 or modulo is not None):
            return pow(int(self), int(exponent), modulo)
        _tell(self)
        return int.__float__(self) ** exponent if isinstance(exponent, int | float) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        _tell(self)
        return int.__float__(self) / other if isinstance(other, int | float) else NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        _tell(self)
        return other / int.__float__(self) if isinstance(other, int | float) else NotImplemented


@contextmanager
def noted_floats(listener: Callable[[NotedInt], None]) -> Iterator[None]:
    """Calls a function with every size that becomes a floating-point number while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(size: NotedInt) -> None:
    for listener in _listeners:
        listener(size)
