"""How likely the target is in each cell, given where and how large it was: for networks that are not sure of it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Response:
    """Scores that changes of size and shape lower, blended with a window (SiamRPN, Li et al., CVPR 2018).

    The original multiplies scores by the window instead, and knows no penalty.

    Attributes:
        window: share of the window in the response.
        penalty: how fast scores fall with a change of size or of aspect ratio.
    """

    window: float
    penalty: float

    def __post_init__(self) -> None:
        if not 0 <= self.window <= 1 or self.penalty < 0:
            raise ValueError(
                f"response.window={self.window} must be in [0, 1] and response.penalty={self.penalty} not negative; "
                "try window=0.35 and penalty=0.2, or response=null for the original's"
            )

    def __call__(self, scores: Tensor, sizes: Tensor, last: Tensor, window: Tensor) -> Tensor:
        """The response of every cell.

        Args:
            scores: (B, 1, F, F).
            sizes: width and height that each cell proposes, (B, 2, F, F).
            last: width and height in the frame before, in the same units, (B, 2).
            window: (F, F), 1 in the middle.

        Returns:
            (B, 1, F, F).
        """
        ratio = sizes / last[:, :, None, None]
        size, aspect = ratio.prod(1, keepdim=True).sqrt(), ratio[:, :1] / ratio[:, 1:]
        change = torch.maximum(size, 1 / size) * torch.maximum(aspect, 1 / aspect) - 1
        return (1 - self.window) * scores * torch.exp(-self.penalty * change) + self.window * window
