"""Example frames: the boxes of parents and children on the sequences on which the children differ most.

Pictures come from the benchmark that the jobs' `config.yaml` names; results alone hold none.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.sequences.sequence import Sequence as Video
from evaluation.report.study_results import Result, number_at
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics.geometry import overlaps
from evaluation.tracking.result_files import read_whole

VIDEOS, MOMENTS = 3, (1 / 3, 2 / 3, 1)  # how many sequences, and where in each
CANDIDATES = 60  # sequences, evenly spread over the benchmark: the report is written after every job
CHILDREN = 3  # boxes of more could not be told apart
ROOM, ZOOM = 1.6, 3  # the part of a picture that is shown: so much more than its boxes, at most so much enlarged
CORNERS = {"parent": (False, True), "child-0": (False, False), "child-1": (True, False), "child-2": (True, True)}
LABEL = 0.04
WIDTH, QUALITY = 320, 70  # of the JPEGs: about 10 kB each
UNUSABLE = (OSError, ValueError, InstantiationException, OmegaConfBaseException)


@dataclass(frozen=True)
class Box:
    """A box in a picture, and where its label goes.

    Attributes:
        kind: "truth", "parent", "child-0", ...: picks its looks.
        label: a word for it; none for the annotation.
        xywh: pixels.
        overlap: with the annotation.
        x, y: of the label's base line: its start or its `anchor`, as SVG has it.
    """

    kind: str
    label: str
    xywh: tuple[float, float, float, float]
    overlap: float
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Picture:
    """The part of a frame where the boxes are.

    Attributes:
        number: of the frame, from 1.
        x, y, width, height: of the part, in pixels of the frame.
        uri: a JPEG of it, at most `WIDTH` pixels wide, as data URI.
    """

    number: int
    x: int
    y: int
    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class Row:
    """What parent and children of one tracker say: boxes for each picture."""

    tracker: str
    boxes: tuple[tuple[Box, ...], ...]


@dataclass(frozen=True)
class Example:
    """A sequence: its name and length, its pictures, and a row for each tracker."""

    name: str
    length: int
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Examples:
    """Example frames, or `why` there are none.

    Attributes:
        shown: the sequences.
        kinds: (kind, label) of the boxes.
        choice: the rule that chose sequences, frames and jobs.
        why: there are none; empty if there are.
        label: height of a label as a share of a picture's width.
    """

    shown: tuple[Example, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    choice: str = ""
    why: str = ""
    label: float = LABEL


@dataclass(frozen=True)
class _Line:
    """The jobs of one tracker, by the kind of their boxes; its `name` says its family, if results do."""

    name: str
    jobs: dict[str, Result]


def examples_of(finished: Sequence[Result], folder: Path) -> Examples:
    """The sequences on which the children differ most; none, and the reason, if a picture or a track cannot be read.

    Args:
        finished: the study's results; "folder" is the job's, below the study's.
        folder: the study's.
    """
    ratios = _ratios(finished)
    lines = list(_lines(finished, ratios))
    if not lines:
        return Examples(why="No job pruned anything.")
    try:
        benchmark = _benchmark(lines, folder)
        videos = _telling(benchmark, lines, folder)
        shown = tuple(_example(video, benchmark, lines, folder) for video in videos)
    except UNUSABLE as error:
        return Examples(why=str(error).replace(f"{folder}/", ""))
    labels = {"parent": "parent"} | {f"child-{i}": f"child, ratio {ratio:g}" for i, ratio in enumerate(ratios)}
    used = [kind for kind in labels if any(kind in line.jobs for line in lines)]
    return Examples(shown, (("truth", "annotation"), *((kind, labels[kind]) for kind in used)), _choice(lines))


def _choice(lines: Sequence[_Line]) -> str:
    """How the frames and jobs were chosen."""
    children = [[*line.jobs.values()][-1] for line in lines]
    methods = dict.fromkeys(f"{result.get('method')}, seed {result.get('seed')}" for result in children)
    return (
        f"The {VIDEOS} sequences (of at most {CANDIDATES}, evenly spread over the benchmark) on which the mean overlap "
        "with the annotation differs most between a parent and its children, averaged over trackers; frames a third, "
        f"two thirds and all of the way through. Jobs: {'; '.join(methods)}."
    )


def _ratios(finished: Sequence[Result]) -> list[float]:
    """Up to `CHILDREN` of the pruned ratios, evenly spread over those that were tried."""
    tried = sorted({ratio for result in finished if (ratio := number_at(result, "ratio")) and ratio < 1}, reverse=True)
    at = np.linspace(0, len(tried) - 1, min(CHILDREN, len(tried))).astype(int)
    return [tried[i] for i in at]


def _lines(finished: Sequence[Result], ratios: Sequence[float]) -> Iterator[_Line]:
    """Each tracker by its first method and seed that have a child at one of the ratios."""
    for tracker in dict.fromkeys(str(result.get("tracker")) for result in finished):
        own = [result for result in finished if str(result.get("tracker")) == tracker]
        first = next((result for result in own if result.get("ratio") in ratios), None)
        if first is None:
            continue
        same = [r for r in own if all(r.get(key) == first.get(key) for key in ("scale", "seed"))]
        dense = next((result for result in same if result.get("ratio") == 1), None)
        jobs = {"parent": dense} if dense else {}
        for index, ratio in enumerate(ratios):
            alike = ("method", "ratio_of")
            child = (r for r in same if r.get("ratio") == ratio and all(r.get(key) == first.get(key) for key in alike))
            jobs |= {f"child-{index}": found for found in child}
        yield _Line(f"{tracker} ({family})" if (family := first.get("family")) else tracker, jobs)


def _benchmark(lines: Sequence[_Line], folder: Path) -> Benchmark:
    """The benchmark of the first job, which all boxes must be of."""
    job = next(iter(lines[0].jobs.values()))
    return instantiate(OmegaConf.load(_of(job, folder) / "config.yaml").benchmark, _convert_="all")


def _of(job: Result, folder: Path) -> Path:
    return folder / str(job.get("folder"))


def _tracks(video: Video, benchmark: Benchmark, line: _Line, folder: Path) -> dict[str, np.ndarray]:
    """Boxes (n, 4) by kind."""
    return {kind: read_whole(_of(job, folder) / "boxes" / benchmark.name, video)[0] for kind, job in line.jobs.items()}


def _telling(benchmark: Benchmark, lines: Sequence[_Line], folder: Path) -> list[Video]:
    """The sequences with the largest span of mean overlap over a tracker's parent and children, mean over trackers."""
    spans = {}
    for index in _spread(len(benchmark.sequences), CANDIDATES):
        video = benchmark.sequences[index]
        seen = video.visible_frames[video.visible_frames > 0]
        if video.annotated and len(seen):
            spans[index] = np.mean([
                np.ptp([np.mean(overlaps(boxes[seen], video.boxes[seen])) for boxes in tracks.values()])
                for tracks in (_tracks(video, benchmark, line, folder) for line in lines)
            ])  # fmt: skip
    return [benchmark.sequences[index] for index in sorted(spans, key=lambda index: -spans[index])[:VIDEOS]]


def _spread(count: int, most: int) -> range:
    return range(0, count, max(1, -(-count // most)))


def _example(video: Video, benchmark: Benchmark, lines: Sequence[_Line], folder: Path) -> Example:
    frames = list(dict.fromkeys(round(moment * (len(video) - 1)) for moment in MOMENTS))
    tracks = [{"truth": video.boxes} | _tracks(video, benchmark, line, folder) for line in lines]
    pictures = [_picture(video, f, np.array([t[f] for own in tracks for t in own.values()])) for f in frames]
    rows = [
        Row(line.name, tuple(tuple(_boxes(own, f, line, p)) for f, p in zip(frames, pictures, strict=True)))
        for line, own in zip(lines, tracks, strict=True)
    ]
    return Example(video.name, len(video), tuple(pictures), tuple(rows))


def _boxes(tracks: dict[str, np.ndarray], frame: int, line: _Line, picture: Picture) -> Iterator[Box]:
    truth = tracks["truth"][frame]
    for kind, track in tracks.items():
        x, y, w, h = box = tuple(round(float(value), 1) for value in track[frame])
        label = "" if kind == "truth" else "parent" if kind == "parent" else f"{line.jobs[kind]['ratio']:g}"
        # Each kind has a corner of its own, so that labels of equal boxes do not cover each other.
        right, below = CORNERS.get(kind, (False, False))
        size = LABEL * picture.width
        left, top = x + right * w, y + (h + size if below else -0.3 * size)
        yield Box(
            kind, label, box, float(overlaps(track[[frame]], truth[None])[0]),
            round(float(np.clip(left, picture.x, picture.x + picture.width)), 1),
            round(float(np.clip(top, picture.y + size, picture.y + picture.height - 0.3 * size)), 1),
            "end" if right else "start",
        )  # fmt: skip


def _picture(video: Video, frame: int, boxes: np.ndarray) -> Picture:
    """The part of a frame that holds the boxes (n, 4), in the frame's proportions."""
    image = video.image(frame)
    size = np.array(image.shape[1::-1])
    low = np.clip(boxes[:, :2].min(0), 0, size)
    high = np.clip((boxes[:, :2] + boxes[:, 2:]).max(0), 0, size)
    share = np.clip(ROOM * np.max((high - low) / size), 1 / ZOOM, 1)
    width, height = part = np.maximum(np.rint(share * size), 1).astype(int)
    x, y = np.clip(np.rint((low + high - part) / 2), 0, size - part).astype(int)
    shown = image[y : y + height, x : x + width]
    if width > WIDTH:
        shown = cv2.resize(shown, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)
    packed = cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    uri = f"data:image/jpeg;base64,{base64.b64encode(packed).decode()}"
    return Picture(frame + 1, int(x), int(y), int(width), int(height), uri)
