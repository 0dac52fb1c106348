"""`eval.py action=export`: a folder that `load_tracker` opens, and errors that name what to write instead."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trackers import load_tracker
from trackers.exported import ExportedTracker, is_export

Run = Callable[..., Path]


@pytest.mark.attack
def test_a_checkpoint_becomes_an_export_that_is_scored(
    run: Run, small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path / "export"
    run("eval", f"checkpoint={small_checkpoint}", "action=export", f"folder={folder}")
    told = capsys.readouterr().out
    assert "search" in told
    assert f"eval.py checkpoint={folder}" in told
    about = ExportedTracker.read(folder).about
    assert about["checkpoint"]["name"] == small_checkpoint.name
    assert about["tracker"] == "OSTrack"
    assert about["made_with"]["versions"]["torch"]
    outputs = run("eval", f"checkpoint={folder}")
    result = json.loads(next(outputs.rglob("result.json")).read_text())
    assert 0 <= result["metrics"]["synthetic"]["AO"] <= 1
    assert result["params"] == about["params"] > 0
    assert result["macs"] == about["macs"]
    assert result["macs"]["total"] > 0
    assert result["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    # Also if the cache has the results of the runtime that it is made for.
    with pytest.raises(SystemExit, match="runtime=eager cannot open"):
        run("eval", f"checkpoint={folder}", "runtime=eager")


def test_a_folder_for_a_hub(run: Run, small_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    run("eval", f"checkpoint={small_checkpoint}", "action=export", "format=huggingface", f"folder={folder}")
    assert not is_export(folder)
    assert load_tracker(folder).loop.rules.lockstep


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["format=tflite"], "format=tflite is not known; choose one of onnx, openvino, huggingface"),
        (["precision=int4"], "format=onnx has no precision=int4; choose one of fp32, fp16, int8"),
        (["precision=bf16"], "format=onnx has no precision=bf16"),
        (["format=huggingface", "precision=fp16"], "format=huggingface has no precision=fp16; choose one of fp32"),
        (["checkpoint=opencv_mil"], "checkpoint=opencv_mil has no network to export"),
        (["checkpoint=[opencv_mil]"], "checkpoint=opencv_mil has no network to export"),
        (["checkpoint=[{file},weights/stark_tiny.safetensors]"], "action=export takes one checkpoint"),
        (["checkpoint=nowhere.safetensors"], "no checkpoint at"),
        (["folder=null"], "folder=null must be a text"),
        (["folder={file}/export"], "cannot be made (Not a directory)"),
        (["folder={folder}"], "holds something that is no export"),
    ],
)
def test_what_cannot_be_exported(
    overrides: list[str], words: str, run: Run, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [o.format(file=small_checkpoint, folder=small_checkpoint.parent) for o in overrides]
    if not any(o.startswith("checkpoint=") for o in given):
        given.append(f"checkpoint={small_checkpoint}")
    with pytest.raises(SystemExit) as stop:
        run("eval", "action=export", *given)
    assert words in capsys.readouterr().err + str(stop.value.code)
