"""Sizes that remember from which dimension of which tensor they were read, as C in `B, N, C = x.shape`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from pruning.discovery.float_sizes import NotedInt
from pruning.discovery.tracked_attributes import TrackedInt

SHAPE: Any = vars(torch._C.TensorBase)["shape"]


class ReadSize(NotedInt):
    """A size of a tensor. Its arithmetic gives plain integers, or what the other number gives.

    Attributes:
        tensor: what stands for the tensor.
        dim: the dimension.
    """

    tensor: Any
    dim: int

    @classmethod
    def of(cls, value: int, tensor: Any, dim: int) -> "ReadSize":
        """Returns `value` with its origin."""
        number = cls(value)
        number.tensor, number.dim = tensor, dim
        return number


def _arithmetic(name: str, reflected: str) -> Callable[[ReadSize, Any], Any]:
    operation = getattr(int, name)

    def method(self: ReadSize, other: Any) -> Any:
        if isinstance(other, TrackedInt):
            value = getattr(other, reflected)(int(self))
            if name == "__floordiv__" and other.exact:
                value.part_of = self
            return value
        return operation(int(self), other)

    return method


for _name in ("add", "sub", "mul", "floordiv"):
    setattr(ReadSize, f"__{_name}__", _arithmetic(f"__{_name}__", f"__r{_name}__"))


def plain_shape(tensor: Tensor) -> tuple[int, ...]:
    """Returns the sizes of a tensor as plain integers."""
    return tuple(map(int, SHAPE.__get__(tensor)))


@contextmanager
def tracked_shapes(stand_in: Callable[[Tensor], Any]) -> Iterator[None]:
    """Lets `shape` and `size` of all tensors return a `ReadSize` for each dimension while the block runs.

    Args:
        stand_in: returns what stands for a tensor.
    """

    thread = get_ident()

    def shape(tensor: Tensor) -> torch.Size:
        if get_ident() != thread:  # another thread may train meanwhile
            return SHAPE.__get__(tensor)
        origin = stand_in(tensor)
        return torch.Size([ReadSize.of(n, origin, d) for d, n in enumerate(plain_shape(tensor))])

    def size(tensor: Tensor, dim: int | None = None) -> Any:
        return shape(tensor) if dim is None else shape(tensor)[dim]

    torch.Tensor.shape, torch.Tensor.size = property(shape), size  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del torch.Tensor.shape, torch.Tensor.size
