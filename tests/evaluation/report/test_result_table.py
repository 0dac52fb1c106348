"""The table at the end of a command, and its last lines."""

import shlex
import sys

import pytest

from evaluation.report.files_guide import display_path, files_guide, prune_command, show_command
from evaluation.report.formatting import WIDTH
from evaluation.report.result_table import result_table
from tests.evaluation.report.studies import FASTER, dense, job, with_ends


def rows_of(table):
    return {line.split()[0]: line.split()[1:] for line in table.partition("\n\n")[0].splitlines()}


def test_a_child_stands_beside_its_parent_with_retention_speed_and_size():
    result = with_ends(job()) | {"speedup": {"cpu": FASTER}, "bytes": 670_000, "interval_protocol": "a method"}
    result["parent"]["bytes"] = 2_700_000
    table = result_table(result)
    rows = rows_of(table)
    assert rows["parent"] == ["child", "retention"]
    assert " ".join(rows["AO"]) == "0.500 (0.45 to 0.55) 0.400 (0.35 to 0.45) 80% (70 to 90%)"
    assert rows["SR0.5"] == ["0.500", "0.400", "80%"]
    assert rows["params"] == ["700,000", "350,000", "50%"]
    assert rows["MACs"] == ["90", "M", "45", "M", "50%"]
    assert rows["file"] == ["2.7", "MB", "670", "kB", "25%"]
    assert " ".join(rows["cpu"]) == "9.00 ms 5.50 ms 1.47 times faster"
    assert "1.47 times faster (1.42 to 1.52); an unpruned one against itself: 0.99 to 1.01" in flat(table)
    assert "not the quotient of the two times above" in flat(table)
    for words in (
        "GOT-10k protocol, 20 sequences",
        "In brackets: a method.",
        "never moves on synthetic: AO 0.200",
    ):
        assert words in table
    assert table.endswith("evidence.")


def flat(table):
    return " ".join(table.split())


def test_a_parent_alone_stands_beside_a_box_that_never_moves():
    rows = rows_of(result_table(dense() | {"speed": {"synthetic": {"fps": 31.04}}}))
    assert rows["AO"] == ["0.500", "0.200"]
    assert rows["params"] == ["700,000"]
    assert rows["tracking"] == ["31.0", "fps"]
    assert "file" not in rows


def test_a_table_fits_in_80_columns_with_the_widest_numbers():
    long = "one pass, ostrack, without invalid frames, 12 of 280 sequences"
    wide = with_ends(job(ao=0.4), retention=(0.991, 1.034))
    wide["retention"]["synthetic"]["AO"] = 1.012
    for result in (wide, wide["parent"]):
        result["params"], result["macs"]["total"] = 123_456_789, 123_456_789_000
        result["metrics"] = {"lasot_extension_subset/ostrack": result["metrics"]["synthetic"] | {"protocol": long}}
        result["intervals"] = {"lasot_extension_subset/ostrack": result["intervals"]["synthetic"]}
    for key in ("retention", "retention_intervals", "still_box"):
        wide[key] = {"lasot_extension_subset/ostrack": wide[key]["synthetic"]}
    table = result_table(wide | {"speedup": {"cuda": FASTER}, "interval_protocol": "words " * 30})
    assert "101% (99 to 103%)" in table
    assert max(map(len, table.splitlines())) <= WIDTH


@pytest.mark.parametrize("result", [{}, {"status": "failed", "error": "no"}, {"metrics": {"b": {}}, "parent": None}])
def test_a_result_may_lack_anything(result):
    assert isinstance(result_table(result), str)
    assert isinstance(result_table(result | {"ratio": 0.5}), str)


def test_the_last_lines_name_the_files_that_are_there_and_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "job"
    (folder / "boxes").mkdir(parents=True)
    (folder / "result.json").touch()
    lines = files_guide(folder, "python eval.py", archive=tmp_path / "a.zip").splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["outputs/job/", "result.json", "boxes/", "a.zip", "next:"]
    assert lines[-1] == "next: python eval.py"
    assert files_guide(tmp_path / "outputs").splitlines()[1].split()[:2] == ["*/", "each"]
    assert display_path(tmp_path.parent) == str(tmp_path.parent)


def test_the_next_command_scores_on_the_same_data_and_survives_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prune.py"])
    overrides = ("ratio=0.5", "paths.data=/d", "+benchmark.x=1", "stages.child.steps=2", "logger=none")
    shown = show_command([tmp_path / "a.safetensors", "b c=.safetensors"], overrides, "lasot")
    words = ["checkpoint=[a.safetensors,'b c=.safetensors']", "benchmark=lasot", "paths.data=/d", "+benchmark.x=1"]
    assert shlex.split(shown) == ["python", "eval.py", *words, "action=show"]
    assert "benchmark=" not in show_command(["a"], ["threads=1"])
    assert "runtime=onnx" in show_command(["a"], ["runtime=onnx"])
    assert show_command(["a"], ["benchmark=otb"], "otb").count("benchmark=") == 1
    assert prune_command(tmp_path / "a") == "python prune.py checkpoint=a ratio=0.5"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lwt-train"])
    assert prune_command(tmp_path / "a") == "lwt-prune checkpoint=a ratio=0.5"
