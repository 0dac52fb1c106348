"""Random numbers of PyTorch's CPU generator, without PyTorch."""

import numpy as np


class UniformNumbers:
    """Generator of uniform numbers. They are those of `torch.rand` with a generator of the same seed, bit by bit.

    Both libraries use the Mersenne Twister, and PyTorch takes the low 24 bits of each of its numbers.

    Args:
        seed: number below 2^32.
    """

    def __init__(self, seed: int):
        self._twister = np.random.RandomState(seed)

    def __call__(self, rows: int, columns: int) -> np.ndarray:
        """Returns the next numbers in [0, 1), (rows, columns) float32."""
        drawn = self._twister.randint(0, 2**32, (rows, columns), dtype=np.uint32)
        return (drawn & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)
