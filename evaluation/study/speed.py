"""Ways to compute a training faster. Each changes the rounding of results, so all are off by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

# Gates put new tensors into the network around every step, and CUDA graphs would be recorded anew for each.
WITHOUT_CUDA_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}


@dataclass(frozen=True)
class Speed:
    """How a network is sped up while it trains. Its names, types and files stay as they are.

    Attributes:
        compile: mode of `torch.compile`; None for none.
        channels_last: whether maps lie in memory as NHWC.
        matmul_precision: see `torch.set_float32_matmul_precision`.
    """

    compile: str | None = None
    channels_last: bool = False
    matmul_precision: str = "highest"

    @contextmanager
    def applied(self, network: nn.Module, gated: bool) -> Iterator[None]:
        """Speeds up a network in the block, and restores it afterwards.

        Args:
            network: the network, changed in place.
            gated: whether gates are folded into the weights around every step.
        """
        precision = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision(self.matmul_precision)
            if self.channels_last:
                network.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]  as documented
            if self.compile:
                network.compile(mode=WITHOUT_CUDA_GRAPHS.get(self.compile, self.compile) if gated else self.compile)
            yield
        finally:
            network._compiled_call_impl = None  # there is no public way back
            if self.channels_last:
                network.to(memory_format=torch.contiguous_format)  # pyrefly: ignore[no-matching-overload]
            torch.set_float32_matmul_precision(precision)
