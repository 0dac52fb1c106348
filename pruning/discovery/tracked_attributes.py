"""Integers that remember from which attribute of which module they come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from pruning.discovery.float_sizes import NotedInt


class TrackedInt(NotedInt):
    """An integer whose arithmetic keeps the names of the attributes that it was computed from.

    Attributes:
        sources: names of the attributes, e.g. ("blocks.0.attn.num_heads",); an entry of a tuple is "split_sizes.1".
        exact: whether the integer is the value of the one attribute itself.
        part_of: the size of a tensor that was divided by the attribute, see `tracked_shapes.ReadSize`; else None.
    """

    sources: tuple[str, ...]
    exact: bool
    part_of: Any = None

    @classmethod
    def of(cls, value: int, sources: tuple[str, ...], exact: bool = False) -> "TrackedInt":
        """Returns `value` with its sources."""
        number = cls(value)
        number.sources, number.exact = sources, exact
        return number


def _arithmetic(name: str) -> Callable[[TrackedInt, Any], Any]:
    operation = getattr(int, name)

    def method(self: TrackedInt, other: Any) -> Any:
        value = operation(self, other)
        others = other.sources if isinstance(other, TrackedInt) else ()
        return TrackedInt.of(value, (*self.sources, *others)) if isinstance(value, int) else value

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv"):
    setattr(TrackedInt, f"__{_name}__", _arithmetic(f"__{_name}__"))


@contextmanager
def tracked_attributes(network: nn.Module) -> Iterator[None]:
    """Replaces the integer attributes of all modules by `TrackedInt`s while the block runs."""
    before: list[tuple[nn.Module, str, Any]] = []
    for path, module in network.named_modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_") or name == "training":
                continue
            place = f"{path}.{name}".lstrip(".")
            if type(value) is int:
                before.append((module, name, value))
                vars(module)[name] = TrackedInt.of(value, (place,), exact=True)
            elif type(value) in (list, tuple) and value and all(type(v) is int for v in value):
                before.append((module, name, value))
                tracked = [TrackedInt.of(v, (f"{place}.{i}",), exact=True) for i, v in enumerate(value)]
                vars(module)[name] = type(value)(tracked)
    try:
        yield
    finally:
        for module, name, value in before:
            vars(module)[name] = value
