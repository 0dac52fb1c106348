"""Tests of integers that tell when they become floating-point numbers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pruning.discovery.float_sizes import NotedInt, noted_floats

FLOATS: dict[str, Callable[[int], Any]] = {
    "root by power": lambda n: n**-0.5,
    "reciprocal by power": lambda n: n**-1,
    "sqrt": math.sqrt,
    "float": float,
    "quotient": lambda n: n / 2,
    "divisor": lambda n: 1 / n,
    "power of a tensor": lambda n: (n ** torch.tensor(0.5)).item(),
}
INTEGERS: dict[str, Callable[[int], Any]] = {
    "sum": lambda n: n + 1,
    "half": lambda n: n // 2,
    "square": lambda n: n**2,
    "rest of a power": lambda n: pow(n, 3, 7),
    "inverse": lambda n: pow(n, -1, 7),
    "shape": lambda n: tuple(torch.zeros(n).shape),
}


@pytest.mark.parametrize("name", FLOATS | INTEGERS)
def test_it_computes_as_an_integer_does_and_tells_of_floats(name: str) -> None:
    told: list[int] = []
    function = (FLOATS | INTEGERS)[name]
    with noted_floats(told.append):
        result = function(NotedInt(9))
    assert (result, type(result)) == (function(9), type(function(9)))
    assert bool(told) == (name in FLOATS)
    function(NotedInt(9))
    assert len(told) <= 1  # nobody listens any more
