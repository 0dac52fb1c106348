"""Cuts a thing out of a picture by its box, and bends it into several poses."""

import cv2
import numpy as np
from numpy.random import Generator

from datamodules.cutouts.outline import find_mask
from datamodules.sequences.sequence import Sequence
from datamodules.synthetic.bank_pictures import find_extents
from datamodules.synthetic.sprites import POSES, convex_hull

CANVAS = 128  # side in pixels of the picture in which a thing is cut out
FILL = 0.7  # longer side of the box over the side of that picture; poses need room
SMALLEST = 28  # pixels; smaller boxes show too little of a thing
INSIDE = 2  # pixels from the border of the picture; the border cuts off what is nearer
PERSPECTIVE, BEND = 0.04, 0.02  # spread of corners and of points of the picture between poses, over its side
BRIGHTNESS, TINT = 0.08, 0.03  # spread of the logarithm of a pose's brightness and colours


def cut_thing(
    sequence: Sequence, frame: int, side: int, rng: Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Cuts the annotated thing out of a frame.

    Args:
        sequence, frame: annotated video or picture, and the number of the frame.
        side: s, side of the pictures of the thing, pixels.
        rng: random generator of the poses.

    Returns:
        (poses, 4, s, s), (poses, directions, 2) and (3,), see `paint_object`; None if the thing is too small, cut off
        by the border of the picture, or has no clear outline.

    Raises:
        UnreadableFrameError: the frame cannot be read.
    """
    cv2.setNumThreads(1)
    x, y, width, height = sequence.boxes[frame]
    if min(width, height) < SMALLEST or min(x, y) < INSIDE:
        return None
    picture = sequence.image(frame)
    if x + width > picture.shape[1] - INSIDE or y + height > picture.shape[0] - INSIDE:
        return None
    length = max(width, height) / FILL
    scale = CANVAS / length
    corner = np.array([x + width / 2, y + height / 2]) - length / 2
    shown = _show(picture, corner, length)
    box = (np.array([x, y, x + width, y + height]) - np.tile(corner, 2)) * scale
    mask = find_mask(shown, box)
    if mask is None:
        return None
    poses = _bend(_cut(shown, mask), rng)
    hulls = [convex_hull(pose[..., 3]) for pose in poses]
    low, high = hulls[0].min(0), hulls[0].max(0)
    centre, unit = (low + high) / 2, np.sqrt(np.prod(high - low))
    extents = find_extents([(hull - centre) / unit for hull in hulls])
    resized = [cv2.resize(pose, (side, side), interpolation=cv2.INTER_AREA) for pose in poses]
    frame_of_thing = np.array([unit, *centre], np.float32) / CANVAS
    return np.stack(resized).transpose(0, 3, 1, 2).copy(), extents, frame_of_thing


def _show(picture: np.ndarray, corner: np.ndarray, length: float) -> np.ndarray:
    """Returns a square part of a picture, (CANVAS, CANVAS, 3); beyond the picture its border is repeated."""
    low, end = np.floor(corner).astype(int), np.ceil(corner + length).astype(int)
    before, after = np.maximum(-low, 0), np.maximum(end - picture.shape[1::-1], 0)
    (left, top), (right, bottom) = np.maximum(low, 0), end
    part = picture[top:bottom, left:right]
    part = cv2.copyMakeBorder(part, before[1], after[1], before[0], after[0], cv2.BORDER_REPLICATE)
    scale = CANVAS / length
    if scale < 1:
        part = cv2.GaussianBlur(part, (0, 0), 0.4 / scale)  # warping alone would skip pixels
    shift = (low - corner + 0.5) * scale - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(part, matrix, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)


def _cut(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the thing (H, W, 4), RGB premultiplied by alpha and alpha, with a soft edge.

    Pixels at the edge mix the colours of thing and background. They get the colour of the nearest pixel inside.
    """
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=2)
    inside = inside if inside.any() else mask
    _, labels = cv2.distanceTransformWithLabels(1 - inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((labels.max() + 1, 3), np.uint8)
    colours[labels[inside > 0]] = picture[inside > 0]
    bled = np.where(inside[..., None] > 0, picture, cv2.GaussianBlur(colours[labels], (0, 0), 1))
    alpha = cv2.GaussianBlur(mask * np.float32(255), (0, 0), 0.8)
    return np.dstack([np.rint(bled * (alpha[..., None] / 255)), np.rint(alpha)]).astype(np.uint8)


def _bend(thing: np.ndarray, rng: Generator) -> list[np.ndarray]:
    """Returns the thing in all poses: as it is, and as seen from elsewhere, bent, and in other light."""
    side = len(thing)
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    poses = [thing]
    for _ in range(POSES - 1):
        seen = corners + side * PERSPECTIVE * rng.standard_normal((4, 2)).astype(np.float32)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), 2).astype(np.float32)
        flow = cv2.perspectiveTransform(grid.reshape(1, -1, 2), cv2.getPerspectiveTransform(corners, seen))
        field = side * BEND * rng.standard_normal((4, 4, 2)).astype(np.float32)
        flow = flow.reshape(side, side, 2) + cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
        # pyrefly: ignore[no-matching-overload]  one map holds both coordinates, so there is no second one
        pose = cv2.remap(thing, flow.astype(np.float32), None, cv2.INTER_LINEAR).astype(np.float32)
        light = np.exp(BRIGHTNESS * rng.standard_normal() + TINT * rng.standard_normal(3))
        pose[..., :3] = np.minimum(pose[..., :3] * light, pose[..., 3:])  # a premultiplied colour is at most its alpha
        poses.append(np.rint(pose).astype(np.uint8))
    return poses
