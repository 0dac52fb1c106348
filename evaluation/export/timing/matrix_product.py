"""The fastest matrix product that this machine computes: the limit that the speed of a network is compared with."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from pruning.cost.latency import synchronised_time

SIDES = {"cpu": (256, 512, 1024), "cuda": (1024, 2048, 4096, 8192)}  # of square matrices, by type of device
SECONDS = 0.1  # for each candidate
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}


@dataclass(frozen=True)
class MatrixProduct:
    """One way to multiply two square matrices.

    Attributes:
        words: library and size, e.g. "oneDNN, 512 x 512".
        macs: multiply-accumulates of one call.
        call: computes the product.
        gflops: measured 10^9 operations per second, two for each multiply-accumulate, of the fastest call.
    """

    words: str
    macs: int
    call: Callable[[], Any] = field(repr=False)
    gflops: float = 0.0


@torch.inference_mode()
def fastest_product(device: str = "cpu", precision: str = "fp32") -> MatrixProduct:
    """Returns the fastest of several matrix products, with the threads that PyTorch has.

    PyTorch's default library is not always the fastest: on some processors MKL reaches half of what oneDNN does. A
    runtime may use either, so the limit is that of the faster one.

    Args:
        device: torch device.
        precision: a key of `DTYPES`.
    """
    return max((_measured(product, device) for product in _candidates(device, precision)), key=lambda p: p.gflops)


def _measured(product: MatrixProduct, device: str) -> MatrixProduct:
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < SECONDS:
        begin = synchronised_time(device)
        product.call()
        times.append(synchronised_time(device) - begin)
    return replace(product, gflops=2e-9 * product.macs / min(times))


def _candidates(device: str, precision: str) -> Iterator[MatrixProduct]:
    dtype, on_cpu = DTYPES[precision], torch.device(device).type == "cpu"
    for side in SIDES["cpu" if on_cpu else "cuda"]:
        a, b = (torch.randint(-8, 8, (side, side), device=device).to(dtype) for _ in range(2))
        words = f"{side} x {side}"
        if dtype == torch.int8:
            yield MatrixProduct(f"torch._int_mm, {words}", side**3, partial(torch._int_mm, a, b))
            continue
        yield MatrixProduct(f"torch.mm, {words}", side**3, partial(torch.mm, a, b))
        if on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            call = partial(torch.ops.mkldnn._linear_pointwise, a, b, None, "none", [], "")
            yield MatrixProduct(f"oneDNN, {words}", side**3, call)
