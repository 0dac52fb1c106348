"""Metrics against plain loops over frames, and refused input; tests/golden compares them with the toolkits."""

import math
from pathlib import Path

import hydra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.tracking.metrics import GOT10k, OnePass, Protocol, Track, TrackingNet, scores_of, speed
from evaluation.tracking.metrics.counts import count_above, count_at_most, count_flags
from evaluation.tracking.metrics.one_pass import OVERLAP_THRESHOLDS
from evaluation.tracking.result_files import read_result

SIZE = (64, 48)
PROTOCOLS = [
    GOT10k(),
    TrackingNet(),
    OnePass("got10k", "lasot"),
    OnePass("pytracking", "lasot"),
    OnePass("ostrack", "uav"),
    OnePass("pytracking", "lasot", exclude_invalid_frames=True),
]
NAMES = [f"{p.key}-{getattr(p, 'dataset', '')}" for p in PROTOCOLS]
# Coarse numbers, so that boxes without size, on an edge and on a threshold are common.
NUMBERS = st.integers(-4, 40).map(lambda n: n / 2)
SIDES = st.sampled_from([0.0, 0.5, 4.0, 8.0, 15.5])
BOXES = st.tuples(NUMBERS, NUMBERS, SIDES, SIDES)
FRAMES = st.tuples(BOXES, BOXES, st.booleans(), st.integers(0, 8))


def track(frames: list[tuple]) -> Track:
    predicted, truth, absent, cover = (np.array(of) for of in zip(*frames, strict=True))
    return Track(predicted.astype(float), truth.astype(float), SIZE, cover, absent)


TRACKS = st.lists(st.lists(FRAMES, min_size=1, max_size=6).map(track), min_size=1, max_size=4).map(
    lambda tracks: {f"video{i}": t for i, t in enumerate(tracks)}
)
VALUES = st.lists(
    st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 0.7, 1.0, 1.0000000000000002, math.inf, math.nan])), min_size=1
)


@given(VALUES)
def test_counts_are_those_of_a_loop(sequences: list[list[float]]) -> None:
    thresholds, lengths = np.array([0, 0.1, 0.25, 0.5, 1]), np.array([len(s) for s in sequences])
    values = np.array([v for s in sequences for v in s], np.float64)

    def count(passes) -> list[list[int]]:
        return [[sum(passes(v, t) for v in s) for t in thresholds] for s in sequences]

    assert count_above(values, thresholds, lengths).tolist() == count(lambda v, t: v > t)
    assert count_above(values, thresholds, lengths, or_equal=True).tolist() == count(lambda v, t: v >= t)
    assert count_at_most(values, thresholds, lengths).tolist() == count(lambda v, t: v <= t)
    assert count_flags(values > 0, lengths).tolist() == [sum(v > 0 for v in s) for s in sequences]


def overlap(a: list[float], b: list[float], pixel: int) -> tuple[float, float]:
    sides = [max(0, min(a[i] + a[i + 2] - pixel, b[i] + b[i + 2] - pixel) - max(a[i], b[i]) + pixel) for i in range(2)]
    intersection = sides[0] * sides[1]
    return intersection, a[2] * a[3] + b[2] * b[3] - intersection


def distance(a: list[float], b: list[float]) -> float:
    return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)


def pytracking_scores(tracks: dict[str, Track]) -> dict[str, float]:
    """Returns AUC, P and P_norm of pytracking for LaSOT, computed frame by frame."""
    auc, at_20, at_a_fifth = [], [], []
    for t in tracks.values():
        overlaps, errors, relative, previous = [], [], [], None
        for i, (box, truth) in enumerate(zip(t.predicted.tolist(), t.truth.tolist(), strict=True)):
            if i and 0 in box[2:]:
                box = previous
            previous = box
            box = box if i else truth
            if t.absent[i] or min(truth) <= 0:
                overlaps.append(-1)
                errors.append(math.inf)
                relative.append(math.inf if t.absent[i] else -1)
                continue
            intersection, union = overlap(box, truth, 1)
            overlaps.append(intersection / union)
            centres = [[b[k] + (b[k + 2] - 1) / 2 for k in range(2)] for b in (box, truth)]
            errors.append(distance(*centres))
            relative.append(distance(*([c[k] / truth[k + 2] for k in range(2)] for c in centres)))
        n = len(overlaps)
        auc.append(np.mean([sum(o > t for o in overlaps) / n for t in OVERLAP_THRESHOLDS["pytracking"]]))
        at_20.append(sum(e <= 20 for e in errors) / n)
        at_a_fifth.append(sum(e <= 0.2 for e in relative) / n)
    return {"AUC": np.mean(auc), "P": np.mean(at_20), "P_norm": np.mean(at_a_fifth)}


@given(TRACKS)
def test_pytracking_is_that_of_a_loop(tracks: dict[str, Track]) -> None:
    mine = OnePass("pytracking", "lasot").report(tracks)
    assert {name: mine[name] for name in ("AUC", "P", "P_norm")} == pytest.approx(pytracking_scores(tracks))


def test_pytracking_takes_a_pixel_and_gives_it_back() -> None:
    # This changes the last bit of few overlaps, and decides which of a perfect tracker's pass 1.
    boxes = np.abs(np.random.default_rng(0).normal(0, 200, (20_000, 4))).round(2) + 0.1
    x, y, w, h = boxes.T

    def overlap_with_itself(pixel: int) -> np.ndarray:
        shared = (((x + w - pixel) - x) + pixel) * (((y + h - pixel) - y) + pixel)
        return shared / (w * h + w * h - shared)

    mine = OnePass("pytracking").measure({"video": Track(boxes, boxes)}).overlap
    assert np.array_equal(mine, overlap_with_itself(1))
    assert not np.array_equal(mine, overlap_with_itself(0))
    assert (mine > 1).any()


@given(TRACKS)
def test_got10k_is_that_of_a_loop(tracks: dict[str, Track]) -> None:
    values = []
    for t in tracks.values():
        for box, truth, cover in list(zip(t.predicted.tolist(), t.truth.tolist(), t.cover, strict=True))[1:]:
            if cover == 0:
                continue
            clipped = []
            for b in (box, truth):
                corner = [min(max(b[k], 0), SIZE[k]) for k in range(2)]
                clipped.append(corner + [min(b[k + 2], SIZE[k] - corner[k]) for k in range(2)])
            intersection, union = overlap(*clipped, 0)
            values.append(intersection / union if union else 0)
    mine = GOT10k().report(tracks)
    assert mine["frames"] == len(values)
    if values:
        assert mine["AO"] == pytest.approx(np.mean(values))
    else:
        assert np.isnan([mine["AO"], mine["SR0.5"], mine["SR0.75"]]).all()


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
@settings(max_examples=30)
@given(tracks=TRACKS)
def test_order_does_not_matter_and_all_is_a_share(protocol: Protocol, tracks: dict[str, Track]) -> None:
    before = [t.predicted.copy() for t in tracks.values()]
    forwards, backwards = protocol.report(tracks), protocol.report(dict(reversed(tracks.items())))
    assert forwards == pytest.approx(backwards, nan_ok=True)
    pools_frames = isinstance(protocol, GOT10k)
    counted = sum(not pools_frames or bool((t.cover[1:] > 0).any()) for t in tracks.values())
    assert (forwards["protocol"], forwards["sequences"]) == (protocol.label, counted)
    scores = {name: s for name, s in forwards.items() if isinstance(s, float) and not np.isnan(s)}
    if protocol.key.endswith("excluding_invalid"):
        scores.pop("P_norm", None)  # may pass 1: invalid frames count as hits, but not as frames
    assert all(0 <= score <= 1 for score in scores.values())
    assert all(np.array_equal(t.predicted, b) for t, b in zip(tracks.values(), before, strict=True))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
@settings(max_examples=5)
@given(tracks=TRACKS)
def test_scores_are_weighted_means_of_those_of_sequences(protocol: Protocol, tracks: dict[str, Track]) -> None:
    report, sequences = protocol.score(tracks)
    wanted = scores_of(report)
    wanted.pop("coverage", None)
    assert sequences.scores() == pytest.approx(wanted, nan_ok=True)
    last = list(tracks)[-1]
    alone = scores_of(protocol.report({last: tracks[last]}))
    values = sequences.select(np.array([len(tracks) - 1])).values
    assert {name: float(of[0]) for name, of in values.items()} == pytest.approx(
        {name: alone[name] for name in values}, nan_ok=True
    )


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_a_perfect_tracker_of_whole_boxes(protocol: Protocol) -> None:
    boxes = np.array([[3.0, 4, 10, 8], [5, 6, 11, 9], [7, 8, 12, 10]])
    report = protocol.report({"video": Track(boxes, boxes, SIZE)})
    scores = {name: score for name, score in report.items() if isinstance(score, float)}
    ours = {"AUC": 20 / 21} if isinstance(protocol, OnePass) else {}
    assert scores == pytest.approx({name: ours.get(name, 1) for name in scores})


def test_protocols_have_keys_and_labels_of_their_own() -> None:
    assert len({p.label for p in PROTOCOLS}) == len(PROTOCOLS)
    # That of GOT-10k and the one-pass one of its toolkit share a key: they are not of the same benchmarks.
    assert len({p.key for p in PROTOCOLS[1:]}) == len(PROTOCOLS) - 1


def test_hydra_makes_a_protocol() -> None:
    made = hydra.utils.instantiate(
        {"_target_": "evaluation.tracking.metrics.OnePass", "profile": "pytracking", "dataset": "lasot"}
    )
    assert made == OnePass("pytracking", "lasot")


def some(frames: int, **changes: object) -> Track:
    boxes = np.tile([10.0, 10, 20, 20], (frames, 1))
    return Track(**{"predicted": boxes, "truth": boxes, "size": SIZE} | changes)


def test_got10k_counts_overlaps_above_a_threshold_only() -> None:
    """The overlaps are 1 (the first frame, which is left out), 0.75 and 0.5."""
    truth = np.tile([0.0, 0, 4, 4], (3, 1))
    predicted = np.array([[0.0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 4, 2]])
    scores = GOT10k().report({"video": some(3, predicted=predicted, truth=truth)})
    assert (scores["AO"], scores["SR0.5"], scores["SR0.75"]) == (0.625, 0.5, 0)


def test_trackingnet_takes_areas_under_curves_of_21_points() -> None:
    """The second frame has an overlap of 0.5, and an error of 10 pixels or a quarter of the object's height."""
    predicted, truth = np.tile([10.0, 10, 20, 20], (2, 1)), np.array([[10.0, 10, 20, 20], [10, 10, 20, 40]])
    scores = TrackingNet().report({"video": some(2, predicted=predicted, truth=truth)})
    # One of two frames passes; between two points the area is a trapezoid.
    assert scores["AUC"] == pytest.approx(0.5 + 0.05 * 0.75 + 0.45 * 0.5)
    assert scores["P"] == pytest.approx(0.15 * 0.5 + 0.05 * 0.75 + 0.8)
    assert scores["P_norm"] == pytest.approx(0.45 * 0.5 + 0.05 * 0.75 + 0.5)


@pytest.mark.parametrize(("dataset", "frames", "success"), [("lasot", 3, 1), ("uav", 3, 1), ("otb", 4, 0.75)])
def test_got10k_leaves_out_frames_of_some_data_sets_whose_annotation_is_nan(
    dataset: str, frames: int, success: float
) -> None:
    truth = np.tile([10.0, 10, 20, 20], (4, 1))
    truth[2] = np.nan
    scores = OnePass("got10k", dataset).report({"video": some(4, truth=truth)})
    assert (scores["frames"], scores["OP50"]) == (frames, success)


def test_rows_that_are_missing() -> None:
    short = {"video": some(4, predicted=np.tile([10.0, 10, 20, 20], (2, 1)))}
    assert OnePass("got10k", "otb").report(short)["OP50"] == 1
    assert OnePass("pytracking", "otb").report(short)["OP50"] == 0.5
    assert TrackingNet().report(short)["coverage"] == 0.5


def test_boxes_without_size_are_held_within_a_video() -> None:
    empty = np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [10, 10, 20, 20]])
    tracks = {"before": some(3), "video": some(3, predicted=empty)}
    overlap = OnePass("pytracking").measure(tracks).overlap
    assert overlap.tolist() == [1, 1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        (GOT10k(), {"predicted": np.ones((2, 4))}, "video has 2 predicted boxes for 3 annotated ones"),
        (GOT10k(), {"size": None}, "video needs the size of its pictures"),
        (OnePass("pytracking", "lasot"), {"predicted": np.ones((2, 4))}, "video, frame 3: no box is predicted"),
        (OnePass("ostrack", "otb"), {"predicted": -np.eye(4)[1:]}, "video, frame 2: the predicted box"),
        (OnePass("pytracking", "otb"), {"predicted": np.full((3, 4), np.nan)}, "video, frame 1: the predicted box"),
        (OnePass("pytracking", "otb"), {"truth": np.full((3, 4), np.nan)}, "video, frame 1: the annotated box"),
    ],
)
def test_tracks_that_a_protocol_refuses(protocol: Protocol, changes: dict[str, object], message: str) -> None:
    tracks = {"sound": some(3), "video": some(3, **changes)}
    with pytest.raises(ValueError, match=message):
        protocol.report(tracks)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_nothing_to_score(protocol: Protocol) -> None:
    with pytest.raises(ValueError, match="no tracks"):
        protocol.report({})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicted": np.ones((0, 4))}, "at least one"),
        ({"predicted": np.ones((3, 5))}, "xywh"),
        ({"truth": np.ones(4)}, "xywh"),
        ({"absent": np.zeros(2, bool)}, "absent must have one label for each annotated box"),
        ({"cover": np.zeros(4, int)}, "cover must have one label for each annotated box"),
    ],
)
def test_what_is_not_a_track(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        some(3, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "pysot"}, "profile=pysot is not known"),
        ({"profile": "got10k", "dataset": "LaSOT"}, "dataset=LaSOT is not known; take one of lasot"),
        ({"profile": "got10k", "exclude_invalid_frames": True}, "exclude_invalid_frames=true does not exist"),
    ],
)
def test_what_is_not_a_protocol(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnePass(**arguments)


def test_speed_leaves_out_frames_without_a_time() -> None:
    assert speed(np.array([[0.5, 0.25], [0, np.nan], [-1, 0.5]])) == pytest.approx((2 + 4 + 2) / 3)
    assert np.isnan(speed(np.zeros(3)))


@pytest.mark.parametrize(
    "text", ["1,2,3,4\n5,6,7.5,8\n", "1\t2\t3\t4\r\n5\t6\t7.5\t8\r\n\r\n", "1 2 3 4\n5, 6, 7.5, 8"]
)
def test_results_are_read_however_they_are_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_bytes(text.encode())
    assert read_result(path).tolist() == [[1, 2, 3, 4], [5, 6, 7.5, 8]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("\n\n", "is empty"), ("1,2,3\n", "line 1"), ("1,2,3,4\n1,2,x,4\n", "line 2")],
)
def test_results_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    with pytest.raises(ValueError, match=r"no result .*result\.txt"):
        read_result(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_result(path)


def test_times_of_several_runs_may_lack_some(tmp_path: Path) -> None:
    path = tmp_path / "time.txt"
    path.write_text("0.1,nan,0.2\n")
    assert np.array_equal(read_result(path, columns=3), [[0.1, np.nan, 0.2]], equal_nan=True)
