"""Draws docs/strip.jpg: a parent and its child on a rendered video.

python prune.py checkpoint=weights/ostrack_tiny.safetensors ratio=0.25
python docs/strip.py CHILD.safetensors

Of the videos of the synthetic validation split, the picture shows the one on which the child has its median overlap.
Frames are evenly spaced.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parent.parent))

from datamodules.sequences.sequence import Sequence
from datamodules.synthetic import SplitSpec, SyntheticSet, read_synthetic
from evaluation.tracking.metrics.geometry import overlaps
from trackers import load_checkpoint, load_tracker

ROOT = Path(__file__).parent.parent
PARENT = ROOT / "weights" / "ostrack_tiny.safetensors"
ROWS, COLUMNS, WIDTH, GAP = 2, 3, 400, 6  # frames; pixels of each, and between two
BLUE, ORANGE, WHITE, DARK = (90, 190, 255), (255, 150, 30), (255, 255, 255), (20, 20, 20)


def track(path: Path, video: Sequence) -> np.ndarray:
    """Returns the boxes (n, 4) of a tracker on a video, xywh in pixels."""
    tracker = load_tracker(path)
    tracker.init(video.image(0), tuple(video.boxes[0]))
    return np.array([video.boxes[0], *(tracker.update(video.image(i))[0] for i in range(1, len(video)))])


def draw(image: np.ndarray, boxes: dict[str, tuple[np.ndarray, tuple[int, int, int]]], number: int) -> np.ndarray:
    """Returns a frame, enlarged, with its number and the boxes by label."""
    scale = WIDTH / image.shape[1]
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for box, colour in boxes.values():
        x, y, w, h = (round(float(v) * scale) for v in box)
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, 3, cv2.LINE_AA)
    text(picture, f"frame {number}", (8, picture.shape[0] - 26), WHITE)
    return picture


def text(picture: np.ndarray, words: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Writes words into a picture, with a dark edge; `place` is their upper left corner."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(place, words, colour, ImageFont.load_default(17), stroke_width=2, stroke_fill=DARK)
    picture[:] = np.asarray(image)


def joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Returns pictures as one, below (0) or beside (1) each other, with white gaps."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis)


def videos() -> Iterator[Sequence]:
    """The validation split of conf/synthetic/default.yaml; its training split is not written."""
    given = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "synthetic" / "default.yaml"))
    val = {key: given["val"][key] for key in ("sequences", "frames", "stride")}
    spec = SyntheticSet(given["seed"], given["width"], given["height"], SplitSpec(1, 1, 1), SplitSpec(**val))
    return iter(read_synthetic(spec, ROOT / "cache", "val"))


def main(child: Path) -> None:
    """Tracks all videos with the child, and draws the one of median overlap."""
    found = [(track(child, video), video) for video in videos()]
    ranked = sorted(found, key=lambda pair: overlaps(pair[0][1:], pair[1].boxes[1:]).mean())
    boxes, video = ranked[len(ranked) // 2]
    dense = track(PARENT, video)
    frames = np.linspace(0, len(video) - 1, ROWS * COLUMNS).round().astype(int)
    drawn = [draw(video.image(i), {"parent": (dense[i], BLUE), "child": (boxes[i], ORANGE)}, i + 1) for i in frames]
    sizes = [sum(p.numel() for p in load_checkpoint(path).tracker.network.parameters()) for path in (PARENT, child)]
    text(drawn[0], f"parent, {sizes[0] / 1e3:.0f} k parameters", (8, 6), BLUE)
    text(drawn[0], f"child, {sizes[1] / 1e3:.0f} k parameters", (8, 28), ORANGE)
    rows = [joined(drawn[i : i + COLUMNS], 1) for i in range(0, len(drawn), COLUMNS)]
    cv2.imwrite(str(ROOT / "docs" / "strip.jpg"), joined(rows, 0)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    for name, track_ in (("parent", dense), ("child", boxes)):
        print(f"{video.name}: mean overlap of the {name} {overlaps(track_[1:], video.boxes[1:]).mean():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
