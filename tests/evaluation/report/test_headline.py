"""The headline: size, speed and retention with intervals, and the words where they are no evidence."""

import json
from pathlib import Path

import pytest

from evaluation.report.headline import headline
from evaluation.report.sentences import evidence, intervals, speeds
from evaluation.report.sequence_rows import with_sequences
from evaluation.report.sequences_section import sequences_of
from evaluation.report.series import retention_series
from evaluation.report.stability import stability_of
from evaluation.report.stability_tables import stability_table
from tests.evaluation.report.studies import dense, job, with_intervals


def say(study: list[dict]) -> str:
    lines = retention_series(study, "synthetic", "AO")
    return " ".join(headline(study, lines) + evidence(study, lines))


def test_it_names_size_speed_and_retention():
    study = [with_intervals(job(ratio=ratio, ao=ao)) for ratio, ao in ((0.5, 0.48), (0.25, 0.46), (0.1, 0.2))]
    words = say(study)
    assert (
        "ostrack at ratio 0.25: 25% of the parameters, 2.5 times faster on cpu, keeps 92% (87 to 97%) of AO." in words
    )
    assert "This is not certain for ostrack: the interval reaches below 90%." in words
    assert "At ratio 0.1, the smallest tested, AO retention is 40% (35 to 45%) for ostrack;" in words
    assert "One seed" in words


@pytest.mark.parametrize(
    ("low", "expected"), [(1.02, "no evidence of a speed-up on cpu"), (1.2, "1.5 times faster on cpu")]
)
def test_a_speed_within_the_noise_of_an_unpruned_tracker_is_no_evidence(low, expected):
    result = with_intervals(job(ratio=0.5, ao=0.46))
    result["speedup"]["cpu"]["low"] = low
    assert expected in say([result])
    notes = " ".join(speeds([result]))
    assert "Noise on cpu: an unpruned tracker against itself is 0.98 to 1.03 times as fast." in notes
    assert "the median of the parent\u2019s over all of its jobs, divided by the speed-up" in notes


def test_a_ratio_of_many_digits_is_found_again(tmp_path: Path):
    study = [job(name, 1 / 3, ao=ao) | {"folder": name} for name, ao in (("dimp", 0.48), ("ostrack", 0.3))]
    words = say(with_sequences([with_intervals(result, tmp_path) for result in study], tmp_path))
    assert "dimp at ratio 0.333333: 33% of the parameters, 2.0 times faster on cpu, keeps 96%" in words
    assert "dimp keeps 36 points" in words


def test_a_parent_that_does_not_track_has_no_retention():
    hopeless = with_intervals(job(ratio=0.5, ao=0.45) | {"still_box": {"synthetic": {"AO": 0.5}}})
    words = say([hopeless])
    assert "The parent of ostrack is no better than a box that never moves, so its retention has no meaning." in words
    assert "keeps" not in words
    good = with_intervals(job("dimp", ratio=0.5, ao=0.48)) | {"still_box": {}}
    good["parent"]["metrics"]["synthetic"]["AO"] = 0.6
    assert "dimp at ratio 0.5" in say([hopeless, good])


def test_few_sequences_are_no_evidence():
    result = with_intervals(job(ratio=0.5))
    result["metrics"]["synthetic"]["sequences"] = 2
    assert "2 sequences are too few: no evidence about other videos." in say([result])
    result["metrics"]["clips"] = {"AO": 0.3, "sequences": 1}
    assert "clips: 1 sequence is too few" in say([result])


def test_a_difference_between_trackers_is_named_only_where_sequences_and_seeds_show_it(tmp_path: Path):
    def compared(ao: float, *more: dict) -> str:
        study = [
            job(tracker, 0.1, ao=score) | {"folder": tracker} for tracker, score in (("dimp", 0.35), ("ostrack", ao))
        ]
        return say(with_sequences([with_intervals(result, tmp_path) for result in (*study, *more)], tmp_path))

    assert "On the same sequences dimp keeps 10 points (9 to 11) more than ostrack." in compared(0.3)
    assert "No evidence of a difference between dimp and ostrack: 0 points" in compared(0.35)
    lucky = job("dimp", 0.1, ao=0.45, seed=43) | {"folder": "dimp-43"}
    words = compared(0.3, lucky)
    assert "No evidence of a difference between dimp and ostrack: 20 points" in words
    assert "are no more than the span between seeds." in words


def test_brackets_are_explained_only_where_there_are_some():
    assert intervals([job()]) == []
    (one,) = intervals([with_intervals(job())])
    assert one.startswith("In brackets: 95 % bootstrap over sequences. If the interval of a retention contains 100%")
    assert "Over seeds" in intervals([with_intervals(job(seed=seed)) for seed in (1, 2)])[1]


def test_breaking_ratios_have_the_digits_that_they_deserve():
    def cells(seeds: int) -> list[str]:
        study = [
            job(ratio=ratio, seed=seed, ao=ao - 0.01 * seed)
            for seed in range(seeds)
            for ratio, ao in ((0.5, 0.48), (0.25, 0.4), (0.1, 0.3))
        ]
        return [cell.text for cell in stability_table(stability_of(study))["rows"][0]]

    assert "between 0.5 and 0.25" in cells(1)
    assert "< 0.1" in cells(1)
    assert "0.4 (0.39 to 0.42)" in cells(2)


def test_the_sequences_of_a_large_study_stay_small(tmp_path: Path):
    study = [job(ratio=ratio, seed=seed) for seed in range(2) for ratio in (0.5, 0.25, 0.1, 0.05)] + [dense(seed=0)]
    study = [result | {"folder": f"{index}"} for index, result in enumerate(study)]
    data = sequences_of(with_sequences([with_intervals(result, tmp_path, 180) for result in study], tmp_path))
    assert len(data["jobs"]) == len(study)
    assert len(data["sets"]) == 1
    used = {job[key] for job in data["jobs"] for key in ("score", "parent", "fps", "lost")} - {None}
    assert used | {data["sets"][0]["frames"]} == set(range(len(data["columns"])))
    assert len(json.dumps(data)) < 1000 * len(study) + 6000  # bytes
    assert sequences_of([job()]) == {}
