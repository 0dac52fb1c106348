"""Example frames: boxes of parents and children on the sequences on which they differ most.

The pictures come from the benchmark in the `config.yaml` of the jobs.
"""

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
from evaluation.errors import USER_ERRORS
from evaluation.report.pictures.frame_region import region_around
from evaluation.report.pictures.jpeg import jpeg_uri
from evaluation.report.study_results import Result, number_at
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics.geometry import overlaps
from evaluation.tracking.result_files import read_track

VIDEOS, MOMENTS = 3, (1 / 3, 2 / 3, 1)  # number of sequences, and the frames as shares of a sequence
CANDIDATES = 60  # sequences to choose from; more would make every report slow
CHILDREN = 3  # boxes of more children are hard to tell apart
CORNERS = {"parent": (False, True), "child-0": (False, False), "child-1": (True, False), "child-2": (True, True)}
LABEL = 0.04  # height of a label as a share of the picture's width
WIDTH, QUALITY = 320, 70  # of the JPEGs, about 10 kB each
UNUSABLE = (*USER_ERRORS, OSError, InstantiationException, OmegaConfBaseException)


@dataclass(frozen=True)
class Box:
    """A box in a picture, and the position of its label.

    Attributes:
        kind: "truth", "parent", "child-0", ...: the CSS class of its style.
        label: short text; "" for the annotation.
        xywh: in pixels.
        overlap: with the annotation.
        x, y: position of the label's text in SVG.
        anchor: "start" or "end": the side of the text that is at x, y.
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
    """The part of a frame that holds the boxes.

    Attributes:
        number: of the frame, from 1.
        x, y, width, height: of the part, in pixels of the frame.
        uri: a data URI with a JPEG of the part, at most `WIDTH` pixels wide.
    """

    number: int
    x: int
    y: int
    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class Row:
    """The boxes of one tracker's parent and children for each picture."""

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
    """Example frames, or the reason why there are none.

    Attributes:
        sequences: the sequences with their pictures and boxes.
        kinds: (kind, label) of the boxes.
        choice: the rule that chose sequences, frames and jobs.
        reason: why there are none; "" if there are some.
        label: height of a label as a share of a picture's width.
    """

    sequences: tuple[Example, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    choice: str = ""
    reason: str = ""
    label: float = LABEL


@dataclass(frozen=True)
class _TrackerJobs:
    """The jobs of one tracker by the kind of their boxes. `name` includes the family if results do."""

    name: str
    jobs: dict[str, Result]


def examples_of(finished: Sequence[Result], folder: Path) -> Examples:
    """Returns the sequences on which parents and children differ most, or the reason why they cannot be shown.

    Args:
        finished: the study's results. "folder" is the folder of the job below that of the study.
        folder: of the study.
    """
    ratios = _ratios(finished)
    trackers = list(_jobs_by_tracker(finished, ratios))
    if not trackers:
        return Examples(reason="No job pruned anything.")
    try:
        benchmark = _benchmark(trackers, folder)
        videos = _most_different(benchmark, trackers, folder)
        examples = tuple(_example(video, benchmark, trackers, folder) for video in videos)
    except UNUSABLE as error:
        return Examples(reason=str(error).replace(f"{folder}/", ""))
    labels = {"parent": "parent"} | {f"child-{i}": f"child, ratio {ratio:g}" for i, ratio in enumerate(ratios)}
    used = [kind for kind in labels if any(kind in tracker.jobs for tracker in trackers)]
    return Examples(examples, (("truth", "annotation"), *((kind, labels[kind]) for kind in used)), _choice(trackers))


def _choice(trackers: Sequence[_TrackerJobs]) -> str:
    """Returns in words how sequences, frames and jobs were chosen."""
    children = [[*tracker.jobs.values()][-1] for tracker in trackers]
    methods = dict.fromkeys(f"{result.get('method')}, seed {result.get('seed')}" for result in children)
    return (
        f"These are the {VIDEOS} sequences (of at most {CANDIDATES}, evenly spread over the benchmark) on which the "
        "mean overlap with the annotation differs most between a parent and its children, averaged over trackers. The "
        f"frames are those after one third, after two thirds and at the end. Jobs: {'; '.join(methods)}."
    )


def _ratios(finished: Sequence[Result]) -> list[float]:
    """Returns up to `CHILDREN` of the pruned ratios, evenly spread."""
    tried = sorted({ratio for result in finished if (ratio := number_at(result, "ratio")) and ratio < 1}, reverse=True)
    at = np.linspace(0, len(tried) - 1, min(CHILDREN, len(tried))).astype(int)
    return [tried[i] for i in at]


def _jobs_by_tracker(finished: Sequence[Result], ratios: Sequence[float]) -> Iterator[_TrackerJobs]:
    """Yields the jobs of each tracker: those of the first method and seed that have a child at one of the ratios."""
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
        yield _TrackerJobs(f"{tracker} ({family})" if (family := first.get("family")) else tracker, jobs)


def _benchmark(trackers: Sequence[_TrackerJobs], folder: Path) -> Benchmark:
    """Returns the benchmark of the first job. The boxes of all jobs must be of this benchmark."""
    job = next(iter(trackers[0].jobs.values()))
    return instantiate(OmegaConf.load(_folder_of(job, folder) / "config.yaml").benchmark, _convert_="all")


def _folder_of(job: Result, folder: Path) -> Path:
    return folder / str(job.get("folder"))


def _tracks(video: Video, benchmark: Benchmark, tracker: _TrackerJobs, folder: Path) -> dict[str, np.ndarray]:
    """Returns the boxes (n, 4) by kind."""
    return {
        kind: read_track(_folder_of(job, folder) / "boxes" / benchmark.name, video)[0]
        for kind, job in tracker.jobs.items()
    }


def _most_different(benchmark: Benchmark, trackers: Sequence[_TrackerJobs], folder: Path) -> list[Video]:
    """Returns the sequences with the largest span of mean overlap over parent and children, averaged over trackers."""
    spans = {}
    for index in _evenly_spaced(len(benchmark.sequences), CANDIDATES):
        video = benchmark.sequences[index]
        visible = video.visible_frames[video.visible_frames > 0]
        if video.annotated and len(visible):
            spans[index] = np.mean([
                np.ptp([np.mean(overlaps(boxes[visible], video.boxes[visible])) for boxes in tracks.values()])
                for tracks in (_tracks(video, benchmark, tracker, folder) for tracker in trackers)
            ])  # fmt: skip
    return [benchmark.sequences[index] for index in sorted(spans, key=lambda index: -spans[index])[:VIDEOS]]


def _evenly_spaced(count: int, most: int) -> range:
    """Returns at most `most` of the numbers below `count`, evenly spaced."""
    return range(0, count, max(1, -(-count // most)))


def _example(video: Video, benchmark: Benchmark, trackers: Sequence[_TrackerJobs], folder: Path) -> Example:
    frames = list(dict.fromkeys(round(moment * (len(video) - 1)) for moment in MOMENTS))
    tracks = [{"truth": video.boxes} | _tracks(video, benchmark, tracker, folder) for tracker in trackers]
    pictures = [_picture(video, f, np.array([t[f] for own in tracks for t in own.values()])) for f in frames]
    rows = [
        Row(tracker.name, tuple(tuple(_boxes(own, f, tracker, p)) for f, p in zip(frames, pictures, strict=True)))
        for tracker, own in zip(trackers, tracks, strict=True)
    ]
    return Example(video.name, len(video), tuple(pictures), tuple(rows))


def _boxes(tracks: dict[str, np.ndarray], frame: int, tracker: _TrackerJobs, picture: Picture) -> Iterator[Box]:
    truth = tracks["truth"][frame]
    for kind, track in tracks.items():
        x, y, w, h = (round(float(value), 1) for value in track[frame])
        label = "" if kind == "truth" else "parent" if kind == "parent" else f"{tracker.jobs[kind]['ratio']:g}"
        # Each kind has its own corner, so that the labels of equal boxes do not cover each other.
        right, below = CORNERS.get(kind, (False, False))
        size = LABEL * picture.width
        left, top = x + right * w, y + (h + size if below else -0.3 * size)
        yield Box(
            kind, label, (x, y, w, h), float(overlaps(track[[frame]], truth[None])[0]),
            round(float(np.clip(left, picture.x, picture.x + picture.width)), 1),
            round(float(np.clip(top, picture.y + size, picture.y + picture.height - 0.3 * size)), 1),
            "end" if right else "start",
        )  # fmt: skip


def _picture(video: Video, frame: int, boxes: np.ndarray) -> Picture:
    """Returns the part of a frame that holds the boxes (n, 4), with the aspect ratio of the frame."""
    image = video.image(frame)
    region = region_around(boxes, image.shape[1::-1])
    x, y, width, height = region
    shown = region.crop(image)
    if width > WIDTH:
        shown = cv2.resize(shown, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)
    return Picture(frame + 1, x, y, width, height, jpeg_uri(shown, QUALITY))
