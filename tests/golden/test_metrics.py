"""Metrics against the public toolkits. Everything is regenerated from the cases' `inputs`."""

import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.tracking.metrics import GOT10k, OnePass, Protocol, Track, TrackingNet, one_pass, scores_of, speed
from evaluation.tracking.metrics import trackingnet as devkit
from evaluation.tracking.metrics.counts import Counts, count_above
from evaluation.tracking.metrics.geometry import centers, clip_boxes, distances, intersection_and_union, overlaps
from evaluation.tracking.metrics.one_pass import Measures
from evaluation.tracking.result_files import read_result
from trackers.boxes import giou, xywh_to_xyxy
from trackers.online import clip_box

from .cases import Case, check_kind, each, load, report

KINDS = ("boxes", "edge_cases", "formats", "got10k", "lasot", "lists", "otb", "speed", "submission", "trackingnet")
ONE_PASS = ("otb", "lasot", "trackingnet")
DEVKIT = "trackingnet_devkit"
EXACT = 1e-9
FLOAT32 = 1e-4  # of 100: pytracking rounds its curves to it
CURVE = np.linspace(0, 1, 101)
# Names of scores: the toolkit's, and ours.
GOT10K_ONE_PASS = {
    "success_score": "AUC",
    "precision_score": "P",
    "normalized_precision_score": "P_norm",
    "success_rate": "OP50",
}
PYTRACKING = {"AUC": "AUC", "OP50": "OP50", "OP75": "OP75", "Precision": "P", "Norm Precision": "P_norm"}
TRACKINGNET = {"success": "AUC", "precision": "P", "normalized_precision": "P_norm", "coverage": "coverage"}
COUNTS = {
    "success_count": "success",
    "precision_count": "precision",
    "normalized_precision_count": "normalized_precision",
}
CURVES = ("success_curve", "precision_curve", "normalized_precision_curve")


@each("metrics")
def test_every_kind_of_case_is_known(case: Case) -> None:
    # "speed" holds times of the toolkits on a machine of its own, which benchmarks/metrics.py measures again.
    check_kind(case, KINDS)


def assert_close(name: str, mine: Any, wanted: Any, limit: float = EXACT) -> None:
    """NaN agrees with NaN only, and infinity with itself."""
    mine, wanted = np.asarray(mine, np.float64), np.asarray(wanted, np.float64)
    assert mine.shape == wanted.shape, f"{name}: shape {mine.shape}, reference {wanted.shape}"
    same = (mine == wanted) | (np.isnan(mine) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0, np.abs(mine - wanted)).ravel()
    if difference.size:
        report(name, difference, limit)
    assert (difference <= limit).all(), f"{name}: {mine}, reference {wanted}"


def agree_all(name: str, mine: Mapping[str, Any], wanted: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Scores of a report, those that `wanted` has, and no more; the names say which is which."""
    for theirs in wanted.keys() & names.keys():
        assert_close(f"{name}: {theirs}", mine[names[theirs]], wanted[theirs])
    assert {names[theirs] for theirs in wanted.keys() & names.keys()} >= mine.keys() & {"P_norm", "coverage"}


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
        assert_close(name, overlaps(*pairs, (width, height)), case.stored[name])
        for letter, boxes in zip("ab", pairs, strict=True):
            name = f"got10k_clipped_{letter}_{width}x{height}"
            assert_close(name, clip_boxes(boxes, (width, height)), case.stored[name])


@each("metrics", "boxes")
def test_overlap_is_the_same_without_a_picture(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    assert_close("got10k_iou", overlaps(*pairs), case.stored["got10k_iou"])
    with np.errstate(invalid="ignore", divide="ignore"):
        intersection, union = intersection_and_union(*pairs, pixel=1)
        assert_close("pytracking_iou", intersection / union, case.stored["pytracking_iou"])


@each("metrics", "boxes")
def test_centre_errors_are_the_same(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = map(centers, pairs)
    sides = pairs[1][:, 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        mine = {
            "got10k_center_error": distances(a, b),
            "pytracking_center_error": distances(a, b),
            "got10k_normalized_center_error": distances((a - b) / np.maximum(1, sides)),
            "pytracking_normalized_center_error": distances(a / sides, b / sides),
        }
    for name, values in mine.items():
        assert_close(name, values, case.stored[name])


@each("metrics", "boxes")
def test_giou_is_the_same_where_it_is_defined(case: Case, pairs: tuple[np.ndarray, np.ndarray]) -> None:
    # The reference refuses negative sizes and divides 0 by 0 for two boxes without area; ours is finite there.
    defined = ~(case.stored["giou_raises"] | np.isnan(case.stored["giou"]))
    values = giou(*(xywh_to_xyxy(torch.from_numpy(boxes)) for boxes in pairs))
    assert torch.isfinite(torch.stack(values)).all()
    for name, mine in zip(("giou", "giou_iou"), values, strict=True):
        assert_close(name, mine[torch.from_numpy(defined)], case.stored[name][defined])


def clippings(case: Case) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for name in case.about["arrays"]:
        if found := re.fullmatch(r"clip_box_(\d+)x(\d+)_margin(\d+)", name):
            yield name, tuple(int(n) for n in found.groups())


@each("metrics", "boxes", by=clippings)
def test_boxes_are_clipped_the_same(
    case: Case, part: tuple[int, int, int], pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    name = "clip_box_{}x{}_margin{}".format(*part)
    assert_close(name, [clip_box(tuple(box), *part) for box in pairs[0].tolist()], case.stored[name])


# Tracks from the recipes


@each("metrics", "got10k", *ONE_PASS)
def test_inputs_are_those_of_the_reference(case: Case) -> None:
    assert load("metrics/inputs").checks(case.about["inputs"]) == case.about["checks"]


def tracks_of(case: Case, tracker: str, run: int = 0, profile: str = "got10k") -> dict[str, Track]:
    """What the tracker said in a run, by the name that the profile has for a sequence."""
    inputs, about, tracks = load("metrics/inputs"), case.about["inputs"], {}
    for spec in about["sequences"]:
        # pytracking and OSTrack write and score fewer frames of OTB's Tiger1, and have names of their own.
        skip, name = 0, spec["name"]
        if profile != "got10k":
            skip, name = spec.get("skip_rows", 0), spec.get("alias", name)
        absent = inputs.labels(spec, "full_occlusion") | inputs.labels(spec, "out_of_view")
        tracks[name] = Track(
            inputs.prediction(about, spec, tracker, run)[skip:],
            inputs.ground_truth(about, spec)[skip:],
            tuple(spec["size"]),
            inputs.labels(spec, "cover")[skip:] if "cover" in spec.get("labels", {}) else None,
            absent[skip:] > 0,
        )
    return tracks


def times_of(case: Case, tracker: str) -> dict[str, np.ndarray]:
    """Seconds of all frames and runs, by sequence."""
    inputs, about = load("metrics/inputs"), case.about["inputs"]
    runs = range(inputs.runs(about, tracker))
    return {s["name"]: np.array([inputs.times(about, s, tracker, r) for r in runs]) for s in about["sequences"]}


def profiles_and_trackers(case: Case) -> Iterator[tuple[str, tuple[str, str]]]:
    for profile, trackers in case.about["expected"].items():
        for tracker in trackers:
            yield f"{profile}, {tracker}", (profile, tracker)


def protocol_of(profile: str, dataset: str) -> Protocol:
    """What a profile of the cases is here."""
    protocols = {
        **{p: OnePass(p, dataset) for p in ("got10k", "pytracking", "ostrack")},
        "pytracking_excluding_invalid": OnePass("pytracking", dataset, exclude_invalid_frames=True),
        DEVKIT: TrackingNet(),
    }
    assert profile in protocols, f"no test knows the profile '{profile}'"
    return protocols[profile]


def check_weighted_means(name: str, protocol: Protocol, tracks: dict[str, Track]) -> None:
    """Compares the report, which other checks compare with the toolkit's, with the scores of the sequences."""
    mine = protocol.score(tracks).sequences.scores()
    wanted = {metric: score for metric, score in scores_of(protocol.report(tracks)).items() if metric != "coverage"}
    assert mine.keys() == wanted.keys()
    for metric, score in wanted.items():
        assert_close(f"{name}: {metric}", mine[metric], score)


# GOT-10k


def check_got10k(name: str, tracks: dict[str, Track], wanted: dict[str, Any]) -> None:
    """Compares whatever `wanted` holds; frames per second are another test's."""
    mine, values = GOT10k().report(tracks), GOT10k().overlaps(tracks)[0]
    passed = count_above(values, CURVE, [len(values)])[0]
    assert mine["frames"] == len(values)
    scores = {"ao": mine["AO"], "sr": mine["SR0.5"], "sr_050": mine["SR0.5"], "sr_075": mine["SR0.75"]}
    with np.errstate(invalid="ignore"):
        scores["succ_curve"] = passed / len(values)
    counts = {
        "frames_used": mine["frames"],
        "succ_count": passed.tolist(),
        "above_050": (values > 0.5).sum(),
        "above_075": (values > 0.75).sum(),
    }
    others = {"speed_fps", "not_the_protocol_mean_of_sequence_ao", "length"}
    assert wanted.keys() <= {*scores, *counts, *others}
    for key in wanted.keys() & scores:
        assert_close(f"{name}: {key}", scores[key], wanted[key])
    assert {key: counts[key] for key in wanted.keys() & counts} == {k: v for k, v in wanted.items() if k in counts}
    if "length" in wanted:
        assert {len(t.truth) - 1 for t in tracks.values()} == {wanted["length"]}


def got10k_tracks(case: Case, tracker: str) -> dict[str, Track]:
    """All runs, each sequence as `run/name`."""
    runs = range(load("metrics/inputs").runs(case.about["inputs"], tracker))
    return {f"{r + 1}/{name}": t for r in runs for name, t in tracks_of(case, tracker, r).items()}


def of_sequence(name: str, tracks: dict[str, Track]) -> dict[str, Track]:
    return {key: t for key, t in tracks.items() if key.partition("/")[2] == name}


@each("metrics", "got10k", by=profiles_and_trackers)
def test_got10k_report_is_the_same(case: Case, part: tuple[str, str]) -> None:
    profile, tracker = part
    assert profile == "got10k"
    tracks, wanted = got10k_tracks(case, tracker), case.about["expected"]["got10k"][tracker]
    check_got10k(tracker, tracks, wanted["overall"])
    check_weighted_means(tracker, GOT10k(), tracks)
    for name, scores in wanted["sequences"].items():
        check_got10k(f"{tracker}/{name}", of_sequence(name, tracks), scores)


def average_runs(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean of each score over runs of one tracker. The runs must score the same frames."""
    assert len({(report["protocol"], report["sequences"], report["frames"]) for report in reports}) == 1
    return {name: float(np.mean([report[name] for report in reports])) for name in scores_of(reports[0])}


@each("metrics", "got10k", by=profiles_and_trackers)
def test_got10k_runs_average_to_the_pooled_report(case: Case, part: tuple[str, str]) -> None:
    runs = range(load("metrics/inputs").runs(case.about["inputs"], part[1]))
    mine = average_runs([GOT10k().report(tracks_of(case, part[1], run)) for run in runs])
    wanted = case.about["expected"]["got10k"][part[1]]["overall"]
    assert_close(
        part[1], [mine["AO"], mine["SR0.5"], mine["SR0.75"]], [wanted["ao"], wanted["sr_050"], wanted["sr_075"]]
    )


@each("metrics", "got10k", by=profiles_and_trackers)
def test_got10k_overlaps_are_the_same(case: Case, part: tuple[str, str]) -> None:
    tracks = got10k_tracks(case, part[1])
    assert {f"{part[1]}/{key}" for key in tracks} == {n for n in case.stored if n.startswith(f"{part[1]}/")}
    for key, t in tracks.items():
        stored = case.stored[f"{part[1]}/{key}"]
        counts = slice(None) if t.cover is None else t.cover[1:] > 0
        assert_close(f"{part[1]}/{key}", GOT10k().overlaps({key: t})[0], stored[counts])
        assert_close(f"{part[1]}/{key}, all", overlaps(t.predicted[1:], t.truth[1:], t.size), stored)


@each("metrics", "got10k", by=profiles_and_trackers)
def test_got10k_speed_is_the_same(case: Case, part: tuple[str, str]) -> None:
    times, wanted = times_of(case, part[1]), case.about["expected"]["got10k"][part[1]]
    pooled = np.concatenate([t.ravel() for t in times.values()])
    assert_close(part[1], speed(pooled), wanted["overall"]["speed_fps"])
    for name, scores in wanted["sequences"].items():
        assert_close(f"{part[1]}/{name}", speed(times[name]), scores["speed_fps"])


# GOT-10k, from files


def got10k_reports(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for scenario in case.about["got10k_reports"]:
        yield scenario["name"], scenario


def numbers(text: str) -> list[list[float]]:
    """What a table says, whatever separates its numbers."""
    return [[float(n) for n in re.split(r"[\s,]+", line.strip())] for line in text.strip().splitlines()]


def got10k_results(scenario: dict[str, Any]) -> dict[str, str]:
    """Files of boxes, by run and sequence."""
    results = scenario["results"].items()
    return {Path(p).stem[-3:] + "/" + Path(p).parent.name: t for p, t in results if not p.endswith("_time.txt")}


def sequences_of(scenario: dict[str, Any]) -> list[str]:
    (text,) = (text for path, text in scenario["files"].items() if path.endswith("list.txt"))
    return text.split()


def read_got10k_tracks(scenario: dict[str, Any], folder: Path) -> dict[str, Track]:
    load("metrics/inputs").write({f"{key}.txt": t for key, t in got10k_results(scenario).items()}, folder)
    files, tracks = {path.partition("/")[2]: text for path, text in scenario["files"].items()}, {}
    for name in sequences_of(scenario):
        width, height = re.search(r"resolution: \((\d+), (\d+)\)", files[f"{name}/meta_info.ini"]).groups()
        cover = np.array(numbers(files[f"{name}/cover.label"]))[:, 0]
        runs = sorted(key.partition("/")[0] for key in got10k_results(scenario) if key.endswith(f"/{name}")) or ["001"]
        for run in runs:
            boxes = read_result(folder / run / f"{name}.txt")
            truth = np.array(numbers(files[f"{name}/groundtruth.txt"]))
            tracks[f"{run}/{name}"] = Track(boxes, truth, (int(width), int(height)), cover)
    return tracks


def same_numbers(case: Case, scenario: dict[str, Any]) -> dict[str, Any] | None:
    """What the reference makes of the same data and boxes, otherwise written, where it reads them."""
    mine = {key: numbers(text) for key, text in got10k_results(scenario).items()}
    for other in case.about["got10k_reports"]:
        theirs = {key: numbers(text) for key, text in got10k_results(other).items()}
        wanted = other["expected"]["got10k"]
        if other["files"] == scenario["files"] and theirs == mine and "raises" not in wanted:
            return wanted
    return None


@each("metrics", "edge_cases", by=got10k_reports)
def test_got10k_report_of_files_is_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    wanted = part["expected"]["got10k"]
    if "raises" in wanted:
        # The toolkit reads commas only, and stops where the first sequence has no times. Neither spoils the boxes.
        wanted = same_numbers(case, part) or wanted
    if "raises" in wanted:
        with pytest.raises(ValueError, match=r"annotated ones|there is no result|is empty|number\(s\) a line"):
            GOT10k().report(read_got10k_tracks(part, tmp_path))
        return
    tracks = read_got10k_tracks(part, tmp_path)
    check_got10k(part["name"], tracks, wanted["overall"])
    for name, scores in wanted["sequences"].items():
        check_got10k(f"{part['name']}/{name}", of_sequence(name, tracks), scores)


@each("metrics", "edge_cases", by=got10k_reports)
def test_got10k_speed_from_files_is_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    texts = {Path(path).parent.name: text for path, text in part["results"].items() if path.endswith("_time.txt")}
    load("metrics/inputs").write({f"{name}.txt": text for name, text in texts.items()}, tmp_path)
    times = {n: read_result(tmp_path / f"{n}.txt", len(numbers(text)[0])) for n, text in texts.items()}
    for name, table in times.items():
        assert len(table) == len(numbers(texts[name]))
        assert np.array_equal(table, numbers(texts[name]), equal_nan=True)
    wanted = part["expected"]["got10k"]
    if "raises" in wanted:
        return
    assert_close("overall", speed(np.concatenate([t.ravel() for t in times.values()])), wanted["overall"]["speed_fps"])
    # The toolkit gives a sequence without times the speed of the one before it; to us it has none, as in `overall`.
    for name, table in times.items():
        assert_close(name, np.nan_to_num(speed(table), nan=-1), wanted["sequences"][name]["speed_fps"])


# One pass


@each("metrics", *ONE_PASS)
def test_thresholds_are_the_same(case: Case) -> None:
    mine = {
        profile: {
            "success": one_pass.OVERLAP_THRESHOLDS[profile],
            "precision": one_pass.PIXEL_THRESHOLDS,
            "normalized_precision": relative,
        }
        for profile, relative in one_pass.RELATIVE_THRESHOLDS.items()
    }
    grids = (devkit.OVERLAP_THRESHOLDS, devkit.PIXEL_THRESHOLDS, devkit.RELATIVE_THRESHOLDS)
    mine[DEVKIT] = dict(zip(("success", "precision", "normalized_precision"), grids, strict=True))
    for profile, wanted in case.about["thresholds"].items():
        assert {name: values.tolist() for name, values in mine[profile].items()} == wanted


def check_counts(name: str, mine: Counts, sequence: int, wanted: dict[str, Any]) -> None:
    """Compares a sequence's integers, exactly."""
    for theirs, ours in COUNTS.items():
        if theirs in wanted:
            assert getattr(mine, ours)[sequence].tolist() == wanted[theirs], f"{name}: {theirs}"
    if "denominator" in wanted:
        assert mine.frames[sequence] == wanted["denominator"]


def check_table(wanted: dict[str, str], scores: Mapping[str, float]) -> None:
    for theirs, text in wanted.items():
        score = 100 * scores[PYTRACKING[theirs]]
        tie = abs(100 * score % 1 - 0.5) < 100 * 2e-5
        assert tie or f"{score:.2f}" == text, f"{theirs}: {score}, printed as {text}"


@each("metrics", *ONE_PASS, by=profiles_and_trackers)
def test_one_pass_reports_are_the_same(case: Case, part: tuple[str, str], tmp_path: Path) -> None:
    profile, tracker = part
    wanted, protocol = case.about["expected"][profile][tracker], protocol_of(profile, case.kind)
    if profile == DEVKIT:
        check_devkit(packed(case, tracker), wanted, case, tmp_path)
        return
    tracks = tracks_of(case, tracker, profile=profile)
    measures = protocol.measure(tracks)
    counts, mine = protocol.count(measures), protocol.report(tracks)
    assert tracks.keys() == wanted["sequences"].keys()
    check_weighted_means(tracker, protocol, tracks)
    for i, name in enumerate(tracks):
        of, alone = wanted["sequences"][name], protocol.report({name: tracks[name]})
        check_counts(f"{tracker}/{name}", counts, i, of)
        assert measures.lengths[i] == of["frames"]
        if profile == "got10k":
            agree_all(f"{tracker}/{name}", alone, of, GOT10K_ONE_PASS)
        else:
            assert alone["frames"] == of["denominator"]
            check_valid(f"{tracker}/{name}", protocol.measure({name: tracks[name]}), of)
    if profile == "got10k":
        agree_all(tracker, mine, wanted["overall"], GOT10K_ONE_PASS)
        check_curves(tracker, counts.curves(), wanted["overall"])
    else:
        assert_close(tracker, *scores_side_by_side(mine, wanted["scores"]), limit=FLOAT32)
        check_curves(tracker, [100 * curve for curve in counts.curves()], wanted, FLOAT32)
        check_table(wanted["table"], mine)


def scores_side_by_side(mine: Mapping[str, Any], wanted: Mapping[str, float]) -> tuple[list[float], list[float]]:
    assert wanted.keys() == PYTRACKING.keys()
    return [100 * mine[ours] for ours in PYTRACKING.values()], [wanted[theirs] for theirs in PYTRACKING]


def check_curves(name: str, mine: Any, wanted: Mapping[str, Any], limit: float = EXACT) -> None:
    for curve, key in zip(mine, CURVES, strict=True):
        if key in wanted:
            assert_close(f"{name}: {key}", curve, wanted[key], limit)


def check_valid(name: str, mine: Measures, wanted: Mapping[str, Any]) -> None:
    """Which frames of one sequence are valid, and the overlap in those."""
    assert mine.valid.sum() == wanted["valid_frames"], name
    if mine.valid.any():
        assert_close(f"{name}: average overlap", mine.overlap[mine.valid].mean(), wanted["average_overlap"])
    else:
        assert np.isnan(wanted["average_overlap"])


@each("metrics", "lasot", by=profiles_and_trackers)
def test_one_pass_measures_are_the_same(case: Case, part: tuple[str, str]) -> None:
    profile, tracker = part
    protocol, tracks = protocol_of(profile, case.kind), tracks_of(case, tracker, profile=profile)
    stored = {n.rpartition("/")[2]: v for n, v in case.stored.items() if n.startswith(f"{profile}/{tracker}/")}
    profiles = {n.partition("/")[0] for n in case.stored}
    # Leaving out frames in the end changes no measure of them, so nothing more is stored for it.
    assert stored.keys() == (tracks.keys() if profile in profiles else set())
    mine = protocol.measure(tracks)
    ends = np.cumsum(mine.lengths)
    for name, start, end in zip(tracks, ends - mine.lengths, ends, strict=True):
        rows = (mine.overlap, mine.center_error, mine.normalized_error, mine.valid)
        if name in stored:
            assert_close(f"{tracker}/{name}", [row[start:end] for row in rows[: len(stored[name])]], stored[name])


@each("metrics", *ONE_PASS, by=lambda case: ((t, t) for t in case.about["expected"]["got10k"]))
def test_one_pass_speed_is_the_same(case: Case, part: str) -> None:
    wanted, speeds = case.about["expected"]["got10k"][part], {n: speed(t) for n, t in times_of(case, part).items()}
    assert_close(part, np.nanmean(list(speeds.values())), wanted["overall"]["speed_fps"])
    for name, scores in wanted["sequences"].items():
        assert_close(f"{part}/{name}", speeds[name], scores["speed_fps"])


def merged(case: Case) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    for profile, wanted in case.about["merged_runs"].items():
        yield profile, (profile, wanted)


@each("metrics", *ONE_PASS, by=merged)
def test_runs_are_averaged_the_same(case: Case, part: tuple[str, dict[str, Any]]) -> None:
    profile, wanted = part
    protocol = protocol_of(profile, case.kind)
    runs = [tracks_of(case, tracker, profile=profile) for tracker in wanted["runs"]]
    mine = average_runs([protocol.report(tracks) for tracks in runs])
    assert_close(profile, *scores_side_by_side(mine, wanted["scores"]), limit=FLOAT32)
    check_table(wanted["table"], mine)
    curves = [protocol.count(protocol.measure(tracks)).curves() for tracks in runs]
    check_curves(profile, [100 * np.mean(curve, 0) for curve in zip(*curves, strict=True)], wanted, FLOAT32)


# TrackingNet's development kit


def packed(case: Case, tracker: str, integers: bool = False) -> dict[str, str]:
    """A submission: result files by name, with two decimals, or truncated."""
    inputs, about, archive = load("metrics/inputs"), case.about["inputs"], {}
    for spec in about["sequences"]:
        boxes = inputs.prediction(about, spec, tracker)
        archive[f"{spec['name']}.txt"] = inputs.text(np.trunc(boxes), 0) if integers else inputs.text(boxes, 2)
    return archive


def check_devkit(archive: dict[str, str], wanted: dict[str, Any], case: Case, folder: Path) -> None:
    inputs, about, tracks = load("metrics/inputs"), case.about["inputs"], {}
    inputs.write(archive, folder)
    for spec in about["sequences"]:
        truth = inputs.ground_truth(about, spec)
        # A result that is missing or not alone: how the kit looks for files is not ours, only what it makes of none.
        found = [name for name in archive if f"{spec['name']}.txt" in name]
        boxes = read_result(folder / found[0]) if len(found) == 1 else np.zeros_like(truth)
        tracks[spec["name"]] = Track(boxes, truth)
    mine, protocol = TrackingNet().report(tracks), TrackingNet()
    assert wanted.keys() == {*TRACKINGNET, *CURVES}
    agree_all("kit", mine, {key: wanted[key] / 100 for key in TRACKINGNET}, TRACKINGNET)
    check_curves("kit", protocol.count(protocol.rounded_frames(tracks)).curves(), wanted)
    check_weighted_means("kit", protocol, tracks)


def scenarios(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for scenario in case.about["devkit_scenarios"]["scenarios"]:
        yield scenario["name"], scenario


def changed(archive: dict[str, str], change: Any) -> dict[str, str]:
    """The archive after what was done to it."""
    if change == "none":
        return archive
    ((what, how),) = change.items()
    if what == "drop":
        return {name: text for name, text in archive.items() if name != how}
    if what == "truncate":
        name, lines = how
        return archive | {name: "".join(archive[name].splitlines(keepends=True)[:lines])}
    if what == "append":
        return archive | {how[0]: archive[how[0]] + how[1]}
    if what == "prefix":
        return {how + name: text for name, text in archive.items()}
    assert what == "copy_as", f"no test knows the change '{what}'"
    return archive | {how[1]: archive[how[0]]}


@each("metrics", "trackingnet", by=scenarios)
def test_devkit_scenarios_are_the_same(case: Case, part: dict[str, Any], tmp_path: Path) -> None:
    tracker, change = case.about["devkit_scenarios"]["tracker"], part["change"]
    if change == {"integers": True}:
        archive = packed(case, tracker, integers=True)
    else:
        archive = changed(packed(case, tracker), change)
    check_devkit(archive, part["expected"], case, tmp_path)


# One sequence, and something odd about it


def oddities(case: Case) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    for sequence in case.about["sequences"]:
        for profile in sequence["expected"]:
            yield f"{sequence['benchmark']}, {sequence['name']}, {profile}", (sequence, profile)


def odd_track(sequence: dict[str, Any], profile: str, folder: Path) -> Track:
    path = folder / "result.txt"
    if (text := sequence.get("result_text")) is None and sequence["predictions"] is not None:
        text = "".join(",".join(map(repr, box)) + "\n" for box in sequence["predictions"])
    if text is not None:
        path.write_bytes(text.encode())
    absent = None
    if profile != "got10k" and sequence.get("labels"):  # the got10k toolkit does not read them
        absent = np.any([np.array(label) > 0 for label in sequence["labels"].values()], 0)
    truth = np.array(sequence["ground_truth"], np.float64)
    return Track(read_result(path), truth, absent=absent)


def is_sound(sequence: dict[str, Any]) -> bool:
    """Whether only the reference's code is to blame that it stops."""
    predicted, truth = sequence["predictions"], sequence["ground_truth"]
    if not predicted:
        return False
    otherwise_written = sequence.get("result_text") and numbers(sequence["result_text"]) == predicted
    surplus = np.array(predicted[len(truth) :])
    # It replaces surplus boxes without size, looking up annotations that are not there; and it wants two lines a file.
    return otherwise_written or (surplus.size and (surplus[:, 2:] == 0).any()) or len(truth) == len(predicted) == 1


@each("metrics", "edge_cases", by=oddities)
def test_odd_sequences_are_the_same(case: Case, part: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    sequence, profile = part
    name, wanted = f"{sequence['name']}, {profile}", sequence["expected"][profile]
    protocol = protocol_of(profile, sequence["benchmark"])
    if "raises" in wanted and not is_sound(sequence):
        with pytest.raises(ValueError, match=r"result|predicted|annotated"):
            protocol.report({"it": odd_track(sequence, profile, tmp_path)})
        return
    track = odd_track(sequence, profile, tmp_path)
    mine, measures = protocol.report({"it": track}), protocol.measure({"it": track})
    if "raises" in wanted:
        # Nothing to compare with; but what is written otherwise, or is surplus, must not matter.
        boxes = np.array(sequence["predictions"], np.float64)[: len(track.truth)]
        assert mine == protocol.report({"it": Track(boxes, track.truth, absent=track.absent)})
        assert mine["frames"] == len(track.truth)
        return
    assert measures.lengths.tolist() == [wanted["frames"]]
    for theirs, values in {
        "overlap": measures.overlap,
        "center_error": measures.center_error,
        "normalized_center_error": measures.normalized_error,
        "valid": measures.valid,
    }.items():
        if theirs in wanted:
            assert_close(f"{name}: {theirs}", values, wanted[theirs])
    check_counts(name, protocol.count(measures), 0, wanted)
    if profile == "got10k":
        agree_all(name, mine, wanted, GOT10K_ONE_PASS)
    else:
        assert_close(name, *scores_side_by_side(mine, wanted["scores"]), limit=FLOAT32)
        check_valid(name, measures, wanted)


def comparisons(case: Case) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    for profile, wanted in case.about["missing_sequence"]["expected"].items():
        yield profile, (profile, wanted)


@each("metrics", "edge_cases", by=comparisons)
def test_trackers_are_compared_where_all_have_results(
    case: Case, part: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    # Whoever compares trackers chooses what they share; what one lacks is never left out in silence.
    profile, wanted = part
    inputs, about = load("metrics/inputs"), case.about["missing_sequence"]["inputs"]
    lacking, lacked = case.about["missing_sequence"]["missing"]
    results = {(t, s["name"]): inputs.result_text(about, s, t) for t in about["trackers"] for s in about["sequences"]}
    del results[lacking, lacked]
    inputs.write({f"{tracker}/{name}.txt": text for (tracker, name), text in results.items()}, tmp_path)
    assert wanted["without_skipping"] == "raises"
    with pytest.raises(ValueError, match="there is no result"):
        read_result(tmp_path / lacking / f"{lacked}.txt")
    shared = [s for s in about["sequences"] if all((t, s["name"]) in results for t in about["trackers"])]
    assert [s in shared for s in about["sequences"]] == [bool(valid) for valid in wanted["valid_sequence"]]
    for tracker, scores in wanted["scores"].items():
        tracks = {
            s["name"]: Track(read_result(tmp_path / tracker / f"{s['name']}.txt"), inputs.ground_truth(about, s))
            for s in shared
        }
        mine = protocol_of(profile, about["layout"]).report(tracks)
        assert_close(tracker, *scores_side_by_side(mine, scores), limit=FLOAT32)
