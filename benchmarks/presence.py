"""Fits and measures the presence of trackers: the calibration of their evidence, false alarms, and misses.

python benchmarks/presence.py --fit data/got10k/val --test other/got10k/val weights/ostrack_tiny.safetensors
python benchmarks/presence.py --fit data/got10k/val --write child.safetensors  # also writes the fit into the file
python benchmarks/presence.py --test other/got10k/val weights/*.safetensors  # measures the calibrations in the files

Annotated real video mostly shows its object. So each real video is interrupted twice, after a third and after two
thirds of its frames, by the first frames of another video of the folder, for a fifth of its own length each: the object
is absent there, and the tracker follows whatever it finds, and learns from it. Then the video goes on. Synthetic videos
are those of benchmark=absences, in which the object leaves the picture and returns.

A frame is found if its box overlaps the visible object by more than .1. The fit is a logistic regression of found
frames on the logarithm of the evidence, in which found frames weigh as much as all others together. "lost" is the
presence below which 1 % of the found frames of the fit lie, and "tracked" the presence above which 5 % of its absent
frames lie.
The calibration error is the mean distance between presence and share of found frames in ten bins, by the same weights.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from command import CONF, parser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import safe_open

from datamodules.readers import read_got10k
from datamodules.sequences.sequence import Sequence
from evaluation.tracking.metrics.presence import PresenceTrack, found_mask, presence_report
from trackers import load_checkpoint, load_tracker
from trackers.online import OnlineTracker
from trackers.presence import STATES, TRACKED, Presence

INTERRUPTION = 0.2  # length of an interruption over that of the video
MISSES, FALSE_ALARMS = 0.01, 0.05  # shares of the frames of the fit that the thresholds allow
SMALLEST = 1e-2  # evidence of the fit: smaller values count as it, since a logarithm has no bound
BINS = 10


@dataclass(frozen=True)
class Evidence:
    """Evidence of each frame but the first of a video, beside the annotation, (n,) each."""

    evidence: np.ndarray
    visible: np.ndarray
    found: np.ndarray

    def reported(self, presence: Presence) -> PresenceTrack:
        """Returns what a calibration reports. A first frame that does not count is put in front."""
        values = np.array([1.0, *map(presence.probability, self.evidence)])
        states = np.array([STATES.index(presence.state(value)) for value in values])
        return PresenceTrack(values, states, np.r_[True, self.visible], np.r_[True, self.found])


def main() -> None:
    """Prints a table of calibrations, and one of what they report on other videos."""
    given = _options().parse_args()
    torch.set_num_threads(1)
    folders = {"fit": given.fit, "test": given.test}
    sets = {name: list(interrupted(videos_of(folder), given.rounds)) for name, folder in folders.items() if folder}
    sets["absences"] = [list(_plain(video)) for video in synthetic_videos(given.cache)]
    fits = Table("tracker", "half", "slope", "lost", "tracked", title="calibration")
    columns = ("tracker", "videos", "present", "absent", "found", "AUC", "found AUC", "false alarms", "misses")
    measured = Table(*columns, "found: tracked", "lost", "absent: lost", "calibration error", title="presence")
    for file in given.checkpoints:
        tracker = load_tracker(file)
        evidence = {name: _collect_all(tracker, videos, f"{file.stem} {name}") for name, videos in sets.items()}
        presence = fit(evidence["fit"]) if given.fit else tracker.loop.calibration
        if given.write:
            write(file, presence)
        numbers = (presence.half, presence.slope, presence.lost, presence.tracked)
        fits.add_row(file.stem, *(f"{number:.4g}" for number in numbers))
        for name, videos in evidence.items():
            measured.add_row(file.stem, name, *_cells(videos, presence))
    console = Console(width=180)
    console.print(fits, measured)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.usage = "%(prog)s [options] FILE..."
    options.add_argument("checkpoints", nargs="+", type=Path, help="trackers to measure")
    options.add_argument("--fit", type=Path, nargs="+", help="splits of GOT-10k to fit on; without, nothing is fitted")
    options.add_argument("--test", type=Path, nargs="+", help="splits of GOT-10k to measure on")
    options.add_argument("--write", action="store_true", help="write the fit into the files")
    options.add_argument("--rounds", type=int, default=2, help="how often each video is used (default: %(default)s)")
    options.add_argument("--cache", type=Path, default=Path("cache"), help="of synthetic videos (default: %(default)s)")
    return options


Frames = list[tuple[Sequence, int, Sequence]]  # video of the picture, its frame, and the video that is tracked


def videos_of(splits: list[Path]) -> list[Sequence]:
    """Returns the videos of some splits in the layout of GOT-10k, e.g. data/got10k/val."""
    return [video for split in splits for video in read_got10k(split.parent, split.name, only_complete=True)]


def synthetic_videos(cache: Path) -> list[Sequence]:
    """Returns the videos of benchmark=absences."""
    settings = OmegaConf.load(CONF / "benchmark" / "absences.yaml").sequences
    return list(instantiate(OmegaConf.merge(settings, {"cache": str(cache)})))


def interrupted(videos: list[Sequence], rounds: int) -> Iterator[Frames]:
    """Yields each video with two interruptions by other videos; each round takes others."""
    for turn in range(rounds):
        for k, video in enumerate(videos):
            frames = list(_plain(video))
            length = int(INTERRUPTION * len(video))
            for part in (2, 1):  # the later one first, so that the place of the other one stays
                other = videos[(k + 2 * turn + part) % len(videos)]
                at = part * len(video) // 3
                frames[at:at] = [(other, i, video) for i in range(min(length, len(other)))]
            yield frames


def _plain(video: Sequence) -> Iterator[tuple[Sequence, int, Sequence]]:
    yield from ((video, i, video) for i in range(len(video)))


def _collect_all(tracker: OnlineTracker, videos: list[Frames], name: str) -> list[Evidence]:
    return [collect(tracker, frames) for frames in track(videos, name, console=Console(stderr=True))]


def collect(tracker: OnlineTracker, frames: Frames) -> Evidence:
    """Tracks the video from its first frame to the last one."""
    rows = []
    for shown, i, video in frames:
        image = _resized(shown.image(i), video.size)
        if not rows:
            tracker.init(image, tuple(video.boxes[0]))
            rows.append((0.0, False, False))
            continue
        box, _ = tracker.update(image)
        visible = np.array([shown is video and video.visible[i]])
        found = found_mask(np.array([box]), video.boxes[i : i + 1], visible) if visible[0] else visible
        rows.append((tracker.target.evidence, bool(visible[0]), bool(found[0])))
    evidence, visible, found = map(np.array, zip(*rows[1:], strict=True))
    return Evidence(evidence, visible, found)


def fit(videos: list[Evidence]) -> Presence:
    """Returns the calibration that fits the frames of some videos, rounded to three digits."""
    evidence, visible, found = (
        np.concatenate([getattr(v, name) for v in videos]) for name in ("evidence", "visible", "found")
    )
    columns = np.stack([np.log(np.maximum(evidence, SMALLEST)), np.ones(len(evidence))], 1)
    weights, line = _balanced(found), np.zeros(2)
    for _ in range(50):  # Newton's method
        chance = 1 / (1 + np.exp(-columns @ line))
        curvature = (columns * (weights * chance * (1 - chance))[:, None]).T @ columns
        line += np.linalg.solve(curvature + 1e-9 * np.eye(2), columns.T @ (weights * (found - chance)))
    slope, offset = line
    presence = Presence(_rounded(np.exp(-offset / slope)), _rounded(slope), tracked=1, lost=0)
    values = np.array([presence.probability(e) for e in evidence])
    lost, tracked = np.quantile(values[found], MISSES), np.quantile(values[~visible], 1 - FALSE_ALARMS)
    return replace(presence, lost=_rounded(min(lost, tracked)), tracked=_rounded(tracked))


def write(file: Path, presence: Presence) -> None:
    """Writes a calibration into the recipe of a checkpoint, whose weights keep their precision."""
    checkpoint = load_checkpoint(file)
    settings = {"_target_": "trackers.presence.Presence", **asdict(presence)}
    checkpoint.recipe["online"] = checkpoint.recipe["online"] | {"presence": settings}
    with safe_open(file, "pt") as stored:
        half = any(stored.get_slice(name).get_dtype() == "F16" for name in stored.keys())  # noqa: SIM118
    checkpoint.save(file, half)


def calibration_error(presence: np.ndarray, found: np.ndarray) -> float:
    """Returns the mean distance between the presence and the share of found frames, over bins of the presence."""
    bins = np.minimum((presence * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, _balanced(found) * (presence - found), BINS)).sum())


def _balanced(found: np.ndarray) -> np.ndarray:
    """Returns weights of frames, of sum 1: half for found frames, half for others."""
    return np.where(found, 0.5 / found.sum(), 0.5 / (~found).sum())


def _cells(videos: list[Evidence], presence: Presence) -> list[str]:
    tracks = [video.reported(presence) for video in videos]
    report = presence_report(tracks)
    assert report is not None
    values, state, visible, found = (
        np.concatenate([getattr(t, name)[1:] for t in tracks]) for name in ("presence", "state", "visible", "found")
    )
    shares = ((found, TRACKED), (found, "lost"), (~visible, "lost"))
    numbers = [report[name] for name in ("AUC", "found_AUC", "false_alarms", "misses")]
    numbers += [(state[frames] == STATES.index(name)).mean() for frames, name in shares]
    numbers.append(calibration_error(values, found))
    return [*map(str, (report["present"], report["absent"], found.sum())), *(f"{number:.3f}" for number in numbers)]


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture of another video in the size of the tracked one."""
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


if __name__ == "__main__":
    main()
