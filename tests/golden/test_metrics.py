"""Metrics and readers against the public toolkits. Everything is regenerated from the cases' `inputs`."""

import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.got10k import read_got10k
from datamodules.sequences import Sequence
from evaluation.metrics import Track, got10k_overlaps, got10k_report, overlaps
from trackers.boxes import clip_box, giou, xywh_to_xyxy

from .cases import Case, check_kind, each, load, not_built, report

KINDS = ("boxes", "edge_cases", "formats", "got10k", "lasot", "lists", "otb", "speed", "submission", "trackingnet")
OTHER_BENCHMARKS = ("otb", "lasot", "trackingnet")
EXACT = 1e-9
CURVE = np.arange(101) / 100


@each("metrics")
def test_every_kind_of_case_is_known(case: Case) -> None:
    check_kind(case, KINDS)


def agree(name: str, mine: Any, wanted: Any) -> None:
    """NaN agrees with NaN only."""
    mine, wanted = np.asarray(mine, np.float64), np.asarray(wanted, np.float64)
    assert mine.shape == wanted.shape
    assert np.array_equal(np.isnan(mine), np.isnan(wanted))
    difference = np.nan_to_num(np.abs(mine - wanted))
    report(name, difference, EXACT)
    assert difference.max(initial=0) <= EXACT


# Boxes


@pytest.fixture
def pairs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    a, b = load("metrics/inputs").box_pairs(case.about["inputs"])
    made = {"a": zlib.crc32(a.tobytes()), "b": zlib.crc32(b.tobytes())}
    assert made == case.about["checks"], "the pairs differ from those of the reference"
    return a, b


@each("metrics", "boxes")
def test_overlap_is_the_same_inside_of_a_picture(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    for width, height in case.about["bounds"]:
        name = f"got10k_iou_bound_{width}x{height}"
        agree(name, overlaps(*pairs, (width, height)), case.stored[name])


@each("metrics", "boxes")
def test_overlap_is_the_same_without_a_picture(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    # Pictures begin at 0, so this holds for boxes that do not reach to the left of or above that.
    inside = (np.concatenate(pairs, 1) >= 0).all(1)
    a, b = (boxes[inside] for boxes in pairs)
    agree("got10k_iou", overlaps(a, b, (np.inf, np.inf)), case.stored["got10k_iou"][inside])


@each("metrics", "boxes")
def test_giou_is_the_same_where_it_is_defined(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    # The reference refuses negative sizes and divides 0 by 0 for two boxes without area; ours is finite there.
    defined = ~(case.stored["giou_raises"] | np.isnan(case.stored["giou"]))
    values = giou(*(xywh_to_xyxy(torch.from_numpy(boxes)) for boxes in pairs))
    assert torch.isfinite(torch.stack(values)).all()
    for name, mine in zip(("giou", "giou_iou"), values, strict=True):
        agree(name, mine[torch.from_numpy(defined)], case.stored[name][defined])


def clippings(case: Case) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for name in case.about["arrays"]:
        if found := re.fullmatch(r"clip_box_(\d+)x(\d+)_margin(\d+)", name):
            yield name, tuple(int(n) for n in found.groups())


@each("metrics", "boxes", by=clippings)
def test_boxes_are_clipped_the_same(
    case: Case, part: tuple[int, int, int], pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    name = "clip_box_{}x{}_margin{}".format(*part)
    agree(name, [clip_box(tuple(box), *part) for box in pairs[0].tolist()], case.stored[name])


@each("metrics", "boxes")
def test_centre_errors_are_the_same(case: Case) -> None:
    not_built("otb")


# The GOT-10k protocol


def names_of_trackers(case: Case) -> Iterator[tuple[str, str]]:
    for tracker in case.about["expected"]["got10k"]:
        yield tracker, tracker


@pytest.fixture
def dataset(case: Case, tmp_path: Path) -> list[Sequence]:
    """The case's dataset, written in its official layout and read again."""
    inputs, about = load("metrics/inputs"), case.about["inputs"]
    assert inputs.checks(about) == case.about["checks"], "the inputs differ from those of the reference"
    inputs.write(inputs.dataset_files(about), tmp_path)
    return read_got10k(tmp_path, about["subset"])


def predicted(case: Case, tracker: str, dataset: list[Sequence]) -> dict[tuple[int, str], Track]:
    """What the tracker said, by run (from 1) and sequence."""
    inputs, about, tracks = load("metrics/inputs"), case.about["inputs"], {}
    for spec, sequence in zip(about["sequences"], dataset, strict=True):
        assert sequence.name == spec["name"]
        for run in range(inputs.runs(about, tracker)):
            boxes = inputs.prediction(about, spec, tracker, run)
            tracks[run + 1, sequence.name] = Track(boxes, sequence.boxes, sequence.cover, tuple(spec["size"]))
    return tracks


def check_report(name: str, tracks: list[Track], wanted: dict[str, Any]) -> None:
    """Compares whatever `wanted` holds; frames per second are another test's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
        mine = got10k_report(tracks)
    values = np.concatenate([got10k_overlaps(t) for t in tracks])
    above = (values > CURVE[:, None]).sum(1)
    assert mine["frames"] == len(values)
    scores = {"ao": mine["AO"], "sr": mine["SR0.5"], "sr_050": mine["SR0.5"], "sr_075": mine["SR0.75"]}
    with np.errstate(invalid="ignore"):
        scores["succ_curve"] = above / len(values)
    counts = {
        "frames_used": mine["frames"],
        "succ_count": above.tolist(),
        "above_050": round(mine["SR0.5"] * mine["frames"]) if len(values) else 0,
        "above_075": round(mine["SR0.75"] * mine["frames"]) if len(values) else 0,
    }
    others = {"speed_fps", "not_the_protocol_mean_of_sequence_ao", "length"}
    assert wanted.keys() <= {*scores, *counts, *others}
    for key in wanted.keys() & scores:
        agree(f"{name}: {key}", scores[key], wanted[key])
    assert {key: counts[key] for key in wanted.keys() & counts} == {k: v for k, v in wanted.items() if k in counts}
    if "length" in wanted:
        assert {len(t.truth) - 1 for t in tracks} == {wanted["length"]}


@each("metrics", "got10k", by=names_of_trackers)
def test_got10k_report_is_the_same(case: Case, part: str, dataset: list[Sequence]) -> None:
    tracks, wanted = predicted(case, part, dataset), case.about["expected"]["got10k"][part]
    check_report(part, list(tracks.values()), wanted["overall"])
    for name, scores in wanted["sequences"].items():
        check_report(f"{part}/{name}", [t for (_, of), t in tracks.items() if of == name], scores)


@each("metrics", "got10k", by=names_of_trackers)
def test_got10k_overlaps_are_the_same(case: Case, part: str, dataset: list[Sequence]) -> None:
    tracks = predicted(case, part, dataset)
    assert {f"{part}/{run}/{name}" for run, name in tracks} == {n for n in case.stored if n.startswith(f"{part}/")}
    for (run, name), t in tracks.items():
        stored = case.stored[f"{part}/{run}/{name}"]
        agree(f"{part}/{run}/{name}", got10k_overlaps(t), stored[t.cover[1:] > 0])
        agree(f"{part}/{run}/{name}, all", overlaps(t.predicted[1:], t.truth[1:], t.size), stored)


@each("metrics", "got10k")
def test_got10k_speed_is_the_same(case: Case) -> None:
    not_built("speed")


def got10k_reports(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for scenario in case.about["got10k_reports"]:
        yield scenario["name"], scenario


@each("metrics", "edge_cases", by=got10k_reports)
def test_got10k_report_of_files_is_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    load("metrics/inputs").write(part["files"], tmp_path)
    (subset,) = {name.partition("/")[0] for name in part["files"]}
    wanted, tracks = part["expected"]["got10k"], {}
    for sequence in read_got10k(tmp_path, subset):
        meta = part["files"][f"{subset}/{sequence.name}/meta_info.ini"]
        size = tuple(int(n) for n in re.search(r"resolution: \((\d+), (\d+)\)", meta).groups())
        results = {p: t for p, t in part["results"].items() if f"/{sequence.name}/" in p}
        if not any(path.endswith("_time.txt") for path in results) and "raises" in wanted:
            not_built("speed")
        runs = [boxes_of(text) for path, text in sorted(results.items()) if not path.endswith("_time.txt")]
        if not runs:
            not_built("result files")
        tracks[sequence.name] = [Track(boxes, sequence.boxes, sequence.cover, size) for boxes in runs]
    pooled = [t for runs in tracks.values() for t in runs]
    if "raises" in wanted:
        with pytest.raises(ValueError, match="annotated ones"):
            got10k_report(pooled)
        return
    check_report(part["name"], pooled, wanted["overall"])
    for name, scores in wanted["sequences"].items():
        check_report(f"{part['name']}/{name}", tracks[name], scores)


def boxes_of(text: str) -> np.ndarray:
    """A result file's boxes; files that are not as the toolkit writes them need a reader of our own."""
    try:
        return np.array([[float(n) for n in line.split(",")] for line in text.splitlines()]).reshape(-1, 4)
    except ValueError:
        not_built("result files")


# Readers


def trees(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for tree in case.about["trees"]:
        yield f"{tree['dataset']}, {tree['name']}", tree


@each("metrics", "formats", by=trees)
def test_dataset_is_read_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    if part["dataset"] != "got10k":
        not_built(part["dataset"])
    write_tree(part, tmp_path)
    mine = {s.name: s for s in read_got10k(tmp_path, part["subset"])}
    # Labels of frames cut by the picture and the meta information are not read: nothing uses them.
    for reader in ("got10k", "pytracking"):
        if reader not in part["readers"]:
            continue
        assert mine.keys() == part["readers"][reader]["sequences"].keys()
        for name, wanted in part["readers"][reader]["sequences"].items():
            s = mine[name]
            assert len(s) == wanted["frames"]
            ends = [(s.folder / s.frames[i]).relative_to(tmp_path.resolve()).as_posix() for i in (0, -1)]
            assert ends == [wanted["first"], wanted["last"]]
            assert s.boxes.tolist() == wanted["boxes"]
            if "cover" in wanted:
                assert s.cover.tolist() == wanted["cover"]
    for name, wanted in part["readers"].get("training", {"sequences": {}})["sequences"].items():
        assert mine[name].visible.tolist() == [bool(v) for v in wanted["visible"]]


def write_tree(tree: dict[str, Any], root: Path) -> None:
    files = {}
    for images in tree["images"]:
        for i in range(images["first"], images["last"] + 1):
            files[f"{images['folder']}/{i:0{images['digits']}d}.{images['ext']}"] = ""
    for path, text in tree["files"].items():
        files[path] = text if isinstance(text, str) else "".join(line * times for line, times in text)
    load("metrics/inputs").write(files, root)


# What this version does not have


def benchmarks(case: Case) -> Iterator[tuple[str, str]]:
    for name in sorted({sequence["benchmark"] for sequence in case.about["sequences"]}):
        yield name, name


@each("metrics", "edge_cases", by=benchmarks)
def test_edge_cases_of_other_benchmarks_are_the_same(case: Case, part: str) -> None:
    not_built(part)


@each("metrics", "edge_cases")
def test_sequences_without_a_result_are_the_same(case: Case) -> None:
    not_built("otb" if case.about["missing_sequence"]["inputs"]["layout"] == "otb" else "result files")


@each("metrics", *OTHER_BENCHMARKS)
def test_other_benchmarks_report_the_same(case: Case) -> None:
    not_built(case.kind)


@each("metrics", "lists", "speed", "submission")
def test_lists_speed_and_submissions_are_the_same(case: Case) -> None:
    not_built(case.kind)
