"""Where half precision would lose what counts: quotients of squared norms, and differences of antiderivatives."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """In float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Computes on the device of `x` in the precision that tensors have. (The meta device knows no autocast.)"""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
