"""Response of each cell while tracking, from its score and the last box, for small networks with uncertain scores."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.errors import TrackerError


@dataclass(frozen=True)
class Response:
    """Blend of a window and of scores with a penalty of changes of size and shape (SiamRPN, Li et al., CVPR 2018).

    OSTrack itself multiplies scores by the window and has no penalty.

    Attributes:
        window: share of the window in the response.
        penalty: rate at which scores fall with changes of size and aspect ratio.
    """

    window: float
    penalty: float

    def __post_init__(self) -> None:
        if not 0 <= self.window <= 1 or self.penalty < 0:
            raise TrackerError(
                f"tracker.response.window={self.window} must lie in [0, 1] and penalty={self.penalty} must not be "
                "negative; try window=0.35 and penalty=0.2, or tracker.response=null for OSTrack's response"
            )

    def __call__(self, scores: Tensor, sizes: Tensor, last: Tensor, window: Tensor) -> Tensor:
        """Returns the response of every cell, (B, 1, F, F).

        Args:
            scores: (B, 1, F, F).
            sizes: width and height that each cell proposes, (B, 2, F, F).
            last: width and height in the previous frame, in the same units, (B, 2).
            window: (F, F), 1 at the centre.
        """
        ratio = sizes / last[:, :, None, None]
        size, aspect = ratio.prod(1, keepdim=True).sqrt(), ratio[:, :1] / ratio[:, 1:]
        change = torch.maximum(size, 1 / size) * torch.maximum(aspect, 1 / aspect) - 1
        return (1 - self.window) * scores * torch.exp(-self.penalty * change) + self.window * window
