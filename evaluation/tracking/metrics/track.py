"""A track: the predicted boxes of one sequence beside its annotation."""

from dataclasses import dataclass

import numpy as np

from evaluation.errors import UserError


@dataclass(frozen=True)
class Track:
    """Predicted and annotated boxes of one sequence.

    Attributes:
        predicted: xywh in pixels, (m, 4), from the first frame on. Protocols treat m != n differently.
        truth: xywh in pixels, (n, 4).
        size: (width, height) of the picture. Only GOT-10k needs it.
        cover: visible eighths of the object, (n,). None if all frames count.
        absent: frames whose object is labelled as out of sight, (n,) bool: LaSOT's full_occlusion or out_of_view. None
            if the data set has no such labels.

    Raises:
        UserError: there are no boxes, boxes are not four numbers, or there is not one label for each annotated box.
    """

    predicted: np.ndarray
    truth: np.ndarray
    size: tuple[int, int] | None = None
    cover: np.ndarray | None = None
    absent: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, boxes in (("predicted", self.predicted), ("truth", self.truth)):
            if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
                raise UserError(f"{name} must be xywh boxes (n, 4), and at least one; its shape is {boxes.shape}")
        for name, labels in (("cover", self.cover), ("absent", self.absent)):
            if labels is not None and labels.shape != (len(self.truth),):
                raise UserError(
                    f"{name} must have one label for each annotated box, shape ({len(self.truth)},); its shape is "
                    f"{labels.shape}"
                )
