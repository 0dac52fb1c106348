"""Writes a synthetic set as folders of JPEG files and labels, exactly as GOT-10k does, once and atomically."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from datamodules.synthetic.scene import Annotation, Scene
from datamodules.synthetic.spec import SyntheticSet

JPEG_QUALITY = 90
# Below this share of visible pixels a picture counts as one without the object.
ABSENT = 0.1
# The first numbers that seed a sequence: no scene of one split, hence no texture or object, occurs in the other.
SPLITS = {"train": 1, "val": 2}


def ensure_synthetic(spec: SyntheticSet, cache: Path, workers: int) -> Path:
    """Return the folder of a synthetic set, generating it on the first call.

    The set is written into a temporary folder beside it and renamed when complete, so the folder exists only with all
    of its files. Of several processes that ask for the same set, one writes it and the others wait.

    Args:
        spec: what to generate. Equal specs give equal bytes, whatever `workers` is.
        cache: folder that holds the generated sets; made if missing.
        workers: processes to render with; 0 or 1 renders in this process.

    Returns:
        `cache/synthetic-<hash of the spec>`, with `got10k/train` and `got10k/val` below it.

    Raises:
        ValueError: `cache` is a file, or `workers` is negative.
    """
    cache = Path(cache)
    if workers < 0:
        raise ValueError(f"ensure_synthetic: workers={workers} must not be negative; use workers=1")
    if cache.exists() and not cache.is_dir():
        raise ValueError(f"ensure_synthetic: cache={str(cache)!r} is a file; name a folder, which is made if missing")
    folder = cache / spec.folder
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not folder.is_dir():
            unfinished = cache / (spec.folder + ".tmp")
            # Left by a run that was killed: under the lock nobody writes to it any more.
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                _write_set(spec, unfinished, workers)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def sequence_rng(spec: SyntheticSet, split: str, index: int) -> np.random.Generator:
    """The random numbers of one sequence; `index` counts from 0."""
    return np.random.default_rng([spec.seed, SPLITS[split], index])


def _name(split: str, index: int) -> str:
    return f"GOT-10k_{split.capitalize()}_{index + 1:06d}"


def _write_set(spec: SyntheticSet, root: Path, workers: int) -> None:
    root.mkdir(parents=True)
    jobs = []
    for split in SPLITS:
        folder = root / "got10k" / split
        folder.mkdir(parents=True)
        count = getattr(spec, split).sequences
        (folder / "list.txt").write_text("".join(_name(split, i) + "\n" for i in range(count)))
        jobs += [(spec, split, i, folder / _name(split, i)) for i in range(count)]
    (root / "spec.json").write_text(json.dumps(asdict(spec), indent=2) + "\n")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("synthetic videos", total=len(jobs))
        for _ in _run(jobs, workers):
            progress.advance(task)


def _run(jobs: list[tuple[SyntheticSet, str, int, Path]], workers: int) -> Iterator[None]:
    """Write the sequences, yielding after each."""
    if workers <= 1:
        for job in jobs:
            yield _write_sequence(*job)
        return
    # Not by fork, which may hang in a process that has started threads (torch, OpenCV); and the caller may itself be a
    # joblib worker, one of several jobs of a study.
    pool = Parallel(min(workers, len(jobs)), backend="loky", return_as="generator_unordered")
    yield from pool(delayed(_in_one_thread)(*job) for job in jobs)


def _in_one_thread(*job: Any) -> None:
    cv2.setNumThreads(1)
    _write_sequence(*job)


def _write_sequence(spec: SyntheticSet, split: str, index: int, folder: Path) -> None:
    frames, stride = getattr(spec, split).frames, getattr(spec, split).stride
    scene = Scene(sequence_rng(spec, split, index), spec.width, spec.height, (frames - 1) * stride + 1)
    folder.mkdir()
    truth = []
    for i in range(frames):
        picture, annotation = scene.render(i * stride)
        truth.append(annotation)
        path = folder / f"{i + 1:08d}.jpg"
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"could not write {path}; is the disk full?")
    _write_labels(folder, truth, spec.width, spec.height)


def _write_labels(folder: Path, truth: list[Annotation], width: int, height: int) -> None:
    boxes = "".join(",".join(f"{number:.4f}" for number in a.box) + "\n" for a in truth)
    (folder / "groundtruth.txt").write_text(boxes)
    (folder / "absence.label").write_text("".join(f"{int(a.visible < ABSENT)}\n" for a in truth))
    (folder / "cover.label").write_text("".join(f"{round(8 * a.visible)}\n" for a in truth))
    (folder / "cut_by_image.label").write_text("".join(f"{int(a.cut)}\n" for a in truth))
    (folder / "meta_info.ini").write_text(
        "[METAINFO]\nurl: \nbegin: 00:00:00\nend: 00:00:00\nanno_fps: 10Hz\nobject_class: object\n"
        "motion_class: motion\nmajor_class: object\nroot_class: object\nmotion_adverb: moving\n"
        f"resolution: ({width}, {height})\n"
    )
