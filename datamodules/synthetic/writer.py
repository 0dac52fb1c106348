"""Writes a synthetic set as JPEG files and labels in the layout of GOT-10k, once and atomically."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.errors import DataError
from datamodules.shared_files import hold_lock
from datamodules.synthetic.scene import Annotation, Scene
from datamodules.synthetic.spec import SplitSpec, SyntheticSet

JPEG_QUALITY = 90
ABSENT = 0.1  # an object whose visible fraction is smaller is labelled as absent
# Part of the seed of a sequence, so that the splits share no scene and hence no texture and no object.
SPLITS = {"train": 1, "val": 2}


def ensure_synthetic(spec: SyntheticSet, cache: Path, workers: int) -> Path:
    """Returns the folder of a synthetic set and generates it on the first call.

    The set is written into a temporary folder, which is renamed when complete. So the folder exists only with all its
    files. If several processes ask for the same set, one writes it and the others wait.

    Args:
        spec: size and seed of the set. Equal specs give equal bytes for any number of workers.
        cache: folder that holds generated sets; it is made if missing.
        workers: processes that render; 0 or 1 renders in this process.

    Returns:
        `cache/synthetic-<hash of the spec>`, with `got10k/train` and `got10k/val` below it.

    Raises:
        DataError: `cache` is a file, or `workers` is negative.
    """
    cache = Path(cache)
    if workers < 0:
        raise DataError(f"ensure_synthetic: workers={workers} must not be negative; use workers=1")
    if cache.exists() and not cache.is_dir():
        raise DataError(f"ensure_synthetic: cache={str(cache)!r} is a file; name a folder, which is made if missing")
    folder = cache / spec.folder_name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder, "the synthetic videos"):
        if not folder.is_dir():
            unfinished = cache / (spec.folder_name + ".tmp")
            # A killed process may have left it. We hold the lock, so no other process writes to it.
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                _write_set(spec, unfinished, workers)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def sequence_rng(spec: SyntheticSet, split: str, index: int) -> np.random.Generator:
    """Returns the random generator of a sequence; `index` counts from 0."""
    return np.random.default_rng([spec.seed, SPLITS[split], index])


def _sequence_name(split: str, index: int) -> str:
    return f"GOT-10k_{split.capitalize()}_{index + 1:06d}"


def _write_set(spec: SyntheticSet, root: Path, workers: int) -> None:
    root.mkdir(parents=True)
    jobs = []
    for split in SPLITS:
        folder = root / "got10k" / split
        folder.mkdir(parents=True)
        count = getattr(spec, split).sequences
        (folder / "list.txt").write_text("".join(_sequence_name(split, i) + "\n" for i in range(count)))
        jobs += [(spec, split, i, folder / _sequence_name(split, i)) for i in range(count)]
    (root / "spec.json").write_text(json.dumps(asdict(spec), indent=2) + "\n")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("synthetic videos", total=len(jobs))
        for _ in _write_sequences(jobs, workers):
            progress.advance(task)


def _write_sequences(jobs: list[tuple[SyntheticSet, str, int, Path]], workers: int) -> Iterator[None]:
    """Writes the sequences and yields after each."""
    if workers <= 1:
        for job in jobs:
            yield _write_sequence(*job)
        return
    # Not fork, which may hang in a process that has started threads (torch, OpenCV). loky also works if the caller is
    # itself a joblib worker, i.e. one of several jobs of a study.
    pool = Parallel(min(workers, len(jobs)), backend="loky", return_as="generator_unordered")
    yield from pool(delayed(_write_in_one_thread)(*job) for job in jobs)


def _write_in_one_thread(*job: Any) -> None:
    cv2.setNumThreads(1)
    _write_sequence(*job)


def _write_sequence(spec: SyntheticSet, split: str, index: int, folder: Path) -> None:
    size: SplitSpec = getattr(spec, split)
    frames, stride = size.frames, size.stride
    scene = Scene(sequence_rng(spec, split, index), spec.width, spec.height, (frames - 1) * stride + 1, size.leaves)
    folder.mkdir()
    annotations = []
    for i in range(frames):
        picture, annotation = scene.render(i * stride)
        annotations.append(annotation)
        path = folder / f"{i + 1:08d}.jpg"
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"could not write {path}; is the disk full?")
    _write_labels(folder, annotations, spec.width, spec.height)


def _write_labels(folder: Path, annotations: list[Annotation], width: int, height: int) -> None:
    boxes = "".join(",".join(f"{number:.4f}" for number in a.box) + "\n" for a in annotations)
    (folder / "groundtruth.txt").write_text(boxes)
    (folder / "absence.label").write_text("".join(f"{int(a.visible < ABSENT)}\n" for a in annotations))
    (folder / "cover.label").write_text("".join(f"{round(8 * a.visible)}\n" for a in annotations))
    (folder / "cut_by_image.label").write_text("".join(f"{int(a.cut)}\n" for a in annotations))
    (folder / "meta_info.ini").write_text(
        "[METAINFO]\nurl: \nbegin: 00:00:00\nend: 00:00:00\nanno_fps: 10Hz\nobject_class: object\n"
        "motion_class: motion\nmajor_class: object\nroot_class: object\nmotion_adverb: moving\n"
        f"resolution: ({width}, {height})\n"
    )
