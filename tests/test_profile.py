"""eval.py action=profile, and OpenCV's trackers in eval.py."""

import csv
import json
from types import SimpleNamespace

import cv2
import pytest
from rich.console import Console

from evaluation.command_line.arguments import with_checkpoint_of_opencv
from evaluation.commands import profile
from evaluation.commands.profile_scores import scores_at_hand
from evaluation.commands.runtimes import one_runtime, runtimes_of
from evaluation.errors import UserError
from evaluation.export.timing import frame_times
from evaluation.report.profile_plot import ProfilePoint, draw_profile
from evaluation.report.profile_tables import csv_rows, markdown, notes, terminal_tables
from tests.conftest import results
from trackers.errors import TrackerError
from trackers.runtimes.choices import RUNTIMES


class StandIn:
    """A tracker of OpenCV whose box goes one pixel to the right in each frame."""

    @classmethod
    def create(cls):
        return cls()

    def init(self, image, rectangle):
        self.box = rectangle

    def update(self, image):
        x, y, w, h = self.box
        self.box = (x + 1, y, w, h)
        return True, self.box


@pytest.fixture
def opencv(monkeypatch):
    """`opencv_mil` answers at once."""
    monkeypatch.setattr(cv2, "TrackerMIL", StandIn)


@pytest.fixture
def small_video(monkeypatch):
    """A profile is made on few small frames."""
    for name, value in (("WIDTH", 96), ("HEIGHT", 72), ("FRAMES", 5), ("WARMUP", 1), ("WARM_UP_FRAMES", 2)):
        monkeypatch.setattr(frame_times, name, value)
    monkeypatch.setattr(profile, "profile_video", frame_times.profile_video.__wrapped__)


def test_trackers_are_profiled_in_turns_beside_those_of_opencv(run, small_checkpoint, opencv, small_video, capsys):
    outputs = run(
        *("eval", "action=profile", f"checkpoint=[{small_checkpoint},opencv_mil]", "threads=1"),
        *("profile.rounds=10", "profile.memory=false"),
    )
    (content,) = results(outputs, "profile.json")
    ours, theirs = content["rows"]
    name = small_checkpoint.parent.name
    assert (ours["tracker"], ours["runtime"], ours["precision"]) == (name, "eager", "fp32")
    assert (theirs["tracker"], theirs["runtime"], theirs["network"]) == ("opencv_mil", "opencv", None)
    assert 0 < ours["network"]["median"] < ours["frame"]["median"] <= ours["frame"]["p95"]
    assert ours["frame_speedup"] == {"ratio": 1, "low": 1, "high": 1}
    assert theirs["frame_speedup"]["ratio"] > 1
    assert 0 < ours["share_of_peak"]["ratio"] < 1
    size = content["trackers"][name]
    assert size["bytes"] == small_checkpoint.stat().st_size
    assert sum(size["macs"]["parts"].values()) == size["macs"]["total"] > size["params"] > 0
    assert content["machine"]["threads"] == 1
    assert content["peaks"]["fp32"]["gflops"] > 0
    assert content["scores"] == {}
    assert "10 rounds, after 2 frames of each tracker" in content["protocol"]
    (folder,) = (path.parent for path in outputs.rglob("profile.json"))
    first, second = csv.DictReader((folder / "profile.csv").open())
    assert float(first["frame_p95_ms"]) == ours["frame"]["p95"]
    assert second["params"] == second["network_median_ms"] == ""
    assert (folder / "profile.md").read_text().count("| opencv_mil |") == 2
    assert not (folder / "plots").exists(), "no scores are at hand"
    out = capsys.readouterr().out
    assert "profile.md" in out
    tables = out[out.index("size ") : out.index("Machine:")]
    assert max(map(len, tables.splitlines())) <= 80


def test_the_spelling_tracker_is_scored_and_found_in_the_cache(run, opencv, got10k, tmp_path):
    call = ("benchmark=got10k", f"paths.data={got10k.parent}", f"paths.cache={tmp_path / 'cache'}")
    first = results(run("eval", "tracker=opencv_mil", *call))[-1]
    assert first["checkpoint"] == "opencv_mil"
    assert 0 < first["metrics"]["got10k"]["AO"] < 1
    assert "params" not in first
    run("eval", "checkpoint=opencv_mil", *call)
    assert len(list((tmp_path / "cache").glob("stages/evaluation-*/"))) == 1


@pytest.mark.attack
def test_a_runtime_is_part_of_the_key_and_reaches_the_loop(run, small_checkpoint, got10k, tmp_path, monkeypatch):
    def not_installed(graphs, device, threads):
        raise TrackerError(f"runtime=onnx is not installed, threads={threads}")

    call = ("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={got10k.parent}", "threads=1")
    call = (*call, f"paths.cache={tmp_path / 'cache'}")
    run(*call, "runtime=eager")
    (inputs,) = (tmp_path / "cache").glob("stages/evaluation-*/inputs.json")
    assert "runtime" not in json.loads(inputs.read_text())["tracker"], "as if it were not given"
    monkeypatch.setitem(RUNTIMES, "onnx", not_installed)
    with pytest.raises(SystemExit, match="runtime=onnx is not installed, threads=1"):
        run(*call, "runtime=onnx")
    with pytest.raises(SystemExit, match="runtime=onnx is not installed, threads=1"):
        run(*call, "runtime=[eager,onnx]", "action=profile")
    assert (
        len([f for f in (tmp_path / "cache").glob("stages/evaluation-*/") if not f.name.endswith(".unfinished")]) == 1
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["checkpoint=opencv_kcf2"], ["opencv_kcf2 is not there", "has opencv_mil"]),
        (["checkpoint=opencv_vit"], ["opencv.net=FILE.onnx"]),
        (["checkpoint=opencv_mil", "action=open_loop"], ["opencv_mil", "open_loop"]),
        (["checkpoint=opencv_mil", "+tracker.online.min_size=4"], ["opencv_mil has no recipe"]),
        (["checkpoint=[opencv_mil,opencv_mil]", "action=profile"], ["opencv_mil more than once"]),
        (["checkpoint=[]", "action=profile"], ["checkpoint=[] names no tracker"]),
        (["checkpoint=opencv_mil", "action=profile", "runtime=[onxx]"], ["runtime=onxx", "eager, compile, onnx"]),
        (["checkpoint=opencv_mil", "runtime=[onnx,eager]"], ["several runtimes", "action=profile"]),
        (["checkpoint=opencv_mil", "action=profile", "profile.rounds=3"], ["profile.rounds=3", "10"]),
        (["checkpoint=opencv_mil", "action=profile", "profile.scores=nothing.json"], ["profile.scores=nothing.json"]),
    ],
)
def test_what_makes_no_sense_ends_in_one_line(run, overrides, words):
    with pytest.raises(SystemExit) as stop:
        run("eval", *overrides)
    assert "\n" not in stop.value.code
    for word in words:
        assert word in stop.value.code


def test_runtimes_are_one_name_or_a_list():
    assert runtimes_of(None) == []
    assert runtimes_of("onnx") == ["onnx"]
    assert runtimes_of(["onnx", "eager"]) == ["onnx", "eager"]
    assert one_runtime(["onnx"]) == one_runtime("onnx") == "onnx"
    assert one_runtime(None) is None
    for wrong in ([], ["eager", "eager"], "jax"):
        with pytest.raises(UserError, match="runtime"):
            runtimes_of(wrong)


def test_an_argument_that_names_a_tracker_of_opencv_is_a_checkpoint():
    given = ["tracker=opencv_csrt,opencv_mil", "benchmark=got10k", "-m"]
    assert with_checkpoint_of_opencv("eval", given) == ["checkpoint=opencv_csrt,opencv_mil", *given[1:]]
    assert with_checkpoint_of_opencv("train", given) == given
    assert with_checkpoint_of_opencv("eval", ["+tracker.online.min_size=4"]) == ["+tracker.online.min_size=4"]
    with pytest.raises(SystemExit, match=r"checkpoint=\[a.safetensors,opencv_mil\] compares them"):
        with_checkpoint_of_opencv("eval", ["checkpoint=a.safetensors", "tracker=opencv_mil"])


def result(checkpoint, **scores):
    metrics = {name: {"protocol": "GOT-10k", "sequences": 2, "frames": 20, "AO": ao} for name, ao in scores.items()}
    return {"checkpoint": str(checkpoint), "metrics": metrics, "intervals": {}, "bytes": 0}


def test_scores_come_from_the_jobs_of_the_checkpoints_or_from_a_comparison(tmp_path):
    checkpoints = {}
    for name, scores in (("a", {"synthetic": 0.5}), ("b", {"lasot": 0.1, "synthetic": 0.4}), ("c", {"lasot": 0.3})):
        checkpoints[name] = tmp_path / name / "checkpoint.safetensors"
        (tmp_path / name).mkdir()
        checkpoints[name].write_bytes(b"")
        (tmp_path / name / "result.json").write_text(json.dumps(result(checkpoints[name], **scores)))
    checkpoints["d"], checkpoints["opencv_mil"] = tmp_path / "d" / "checkpoint.safetensors", "opencv_mil"
    checkpoints["e"] = tmp_path / "a" / "another.safetensors"  # beside a result that is not its own
    checkpoints["e"].write_bytes(b"more")
    checkpoints = {name: str(path) for name, path in checkpoints.items()}
    found = scores_at_hand(checkpoints, None)
    assert {name: (of["benchmark"], of["score"]) for name, of in found.items()} == {
        "a": ("synthetic", 0.5),
        "b": ("synthetic", 0.4),
    }, "scores of two benchmarks cannot be compared"
    assert scores_at_hand({"d": checkpoints["d"]}, None) == {}
    compared = {"still_box": {"got10k": {"AO": 0.2}}, "trackers": {"first": result("opencv_mil", got10k=0.3)}}
    (tmp_path / "comparison.json").write_text(json.dumps(compared))
    (found,) = scores_at_hand(checkpoints, str(tmp_path / "comparison.json")).items()
    assert found[0] == "opencv_mil"
    assert (found[1]["score"], found[1]["still_box"], found[1]["metric"]) == (0.3, 0.2, "AO")
    with pytest.raises(UserError, match="a score of none of"):
        scores_at_hand({"d": checkpoints["d"]}, str(tmp_path / "comparison.json"))
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(UserError, match=r"is no comparison.json or result.json"):
        scores_at_hand(checkpoints, str(tmp_path / "wrong.json"))


def times(ms):
    return {"median": ms, "p95": 1.5 * ms, "mean": 1.1 * ms}


CONTENT = {
    "trackers": {
        "ostrack_ratio0.1": {
            "params": 659637,
            "macs": {"total": 152_000_000, "parts": {"backbone": 100_000_000, "head": 0}},
            "bytes": 1331762,
        },
        "a_tracker_with_quite_a_long_name": {"params": None, "macs": None, "bytes": None},
    },
    "rows": [
        {
            "tracker": tracker,
            "runtime": runtime,
            "precision": precision,
            "network": None if runtime == "opencv" else times(1234.5),
            "frame": times(2345.6),
            "fps": 1 / 2.3456,
            "frame_speedup": {"ratio": 12.34, "low": 11.11, "high": 13.13},
            "share_of_peak": None if runtime == "opencv" else {"ratio": 0.123, "low": 0.1, "high": 0.2},
            "memory": {"peak": 989_000_000, "libraries": 880_000_000},
        }
        for tracker, runtime, precision in (
            ("ostrack_ratio0.1", "openvino", "int8"),
            ("a_tracker_with_quite_a_long_name", "opencv", None),
        )
    ],
    "peaks": {"fp32": {"gflops": 250, "best": 260, "product": "oneDNN, 512 x 512"}},
    "protocol": "50 rounds",
    "machine": {"cpu": "A CPU", "instruction_sets": ["avx2"], "threads": 2, "device": "cpu"},
}


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_into_a_terminal_and_hold_all_numbers(width):
    console = Console(width=width, record=True, file=SimpleNamespace(write=lambda text: None, flush=lambda: None))
    for table in terminal_tables(CONTENT):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for cell in (
        "660 k",
        "backbone 100 M, other 52 M",
        "152 M",
        "1234.50",
        "(1851.75)",
        "2345.60",
        "(11.11 to 13.13)",
        "12%",
        "989 MB",
        "(109 MB)",
    ):
        assert cell in text
    assert "openvino int8" in text


def test_markdown_csv_and_notes_tell_the_same():
    text = markdown(CONTENT)
    assert "| ostrack_ratio0.1 | openvino int8 | 1234.50 (1851.75) | 2345.60 (3518.40) |" in text
    row, other = csv_rows(CONTENT)
    assert row["macs"] == 152_000_000
    assert row["memory_peak"] == 989_000_000
    assert "network_median_ms" not in other
    said = " ".join(notes(CONTENT))
    for words in (
        "A CPU, 2 threads, instruction sets avx2",
        "250 GFLOP/s",
        "50 rounds",
        "ostrack_ratio0.1 in openvino",
    ):
        assert words in said
    without = CONTENT | {"rows": [row | {"memory": None} for row in CONTENT["rows"]]}
    assert "Memory" not in " ".join(notes(without))


def test_the_picture_shows_each_tracker_and_runtime():
    points = [
        ProfilePoint("ours", "eager", 20.0, 25.0, 0.6, None),
        ProfilePoint("ours", "onnx", 8.0, 9.0, 0.6, None),
        ProfilePoint("opencv_mil", "opencv", 80.0, 99.0, 0.3, None),
    ]
    figure = draw_profile(points, "AO", "got10k", still=0.2)
    svg = figure.svg.decode()
    for words in ("ours", "opencv_mil", "onnx", "still box", "AO, got10k"):
        assert words in svg
    assert "ours, onnx: AO 0.600 at 8 ms." in figure.description
