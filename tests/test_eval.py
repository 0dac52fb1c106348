"""eval.py as users run it: benchmarks that break off and go on, archives, and other people's numbers."""

import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from got10k.experiments import ExperimentGOT10k

from datamodules.official_layouts import write_got10k, write_lasot, write_trackingnet
from datamodules.readers import read_got10k
from datamodules.readers.trackingnet import SEQUENCES
from evaluation.export.got10k_tracker import Got10kTracker
from evaluation.tracking.result_files import read_boxes, read_result
from evaluation.tracking.submission import pack_got10k
from tests.conftest import results
from tests.datamodules.frames.encoding import VARIABLE, picture, write_video
from trackers import load_tracker


def by_name(got10k):
    """The videos of the small world's val split."""
    return {sequence.name: sequence for sequence in read_got10k(got10k, "val")}


@pytest.fixture
def data(got10k, tmp_path):
    """The small world below a folder of its own, with a test split of which only first frames are annotated."""
    shutil.copytree(got10k, tmp_path / "data" / "got10k")
    write_got10k(tmp_path / "data" / "got10k" / "test", by_name(got10k), first_box_only=True)
    return tmp_path / "data"


SPOIL = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"no picture",
}


def files(folder, pattern="*.txt"):
    return {p.name: p.read_text() for p in sorted(folder.rglob(pattern))}  # the last job counts


def test_a_broken_sequence_ends_in_an_error_and_the_next_run_goes_on(run, small_checkpoint, data, tmp_path):
    frame = data / "got10k" / "val" / "GOT-10k_Val_000002" / "00000004.jpg"
    whole, cache = frame.read_bytes(), tmp_path / "cache"
    frame.write_bytes(b"no picture")
    call = ("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}", f"paths.cache={cache}")
    with pytest.raises(SystemExit) as stop:
        run(*call)
    assert "1 of 2 sequences failed" in stop.value.code
    assert "GOT-10k_Val_000002: UnreadableFrameError: cannot read the frame" in stop.value.code
    done = files(cache / "stages")
    assert done.keys() == {f"GOT-10k_Val_000001{end}.txt" for end in ("", "_time", "_presence")}
    frame.write_bytes(whole)
    outputs = run(*call)
    assert done.items() <= files(outputs, "GOT*.txt").items(), "times and all: it was not tracked again"
    (result,) = results(outputs)
    assert result["metrics"]["got10k"]["protocol"] == "GOT-10k"
    assert result["metrics"]["got10k"]["frames"] <= 2 * 5
    assert 0 < result["still_box"]["got10k"]["AO"] <= 1
    assert result["speed"]["got10k"]["fps"] > 0
    assert result["intervals"]["got10k"]["AO"]["low"] <= result["metrics"]["got10k"]["AO"]
    assert (
        next(outputs.rglob("sequences.csv")).read_text().startswith("benchmark,sequence,frames,fps,lost_at,weight,AO")
    )
    (stage,) = (folder for folder in (cache / "stages").glob("evaluation-*/") if folder.suffix != ".unfinished")
    assert files(outputs, "GOT*.txt") == files(stage)


def test_what_was_tracked_once_is_found_and_forced_again(run, small_checkpoint, data, tmp_path):
    cache = tmp_path / "cache"
    call = ("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}", f"paths.cache={cache}")
    run(*call)
    (boxes,) = cache.rglob("GOT-10k_Val_000001.txt")
    before = boxes.stat().st_mtime_ns
    run(*call, "runner.lockstep=2")  # changes no result
    assert boxes.stat().st_mtime_ns == before
    run(*call, "force=true")
    assert boxes.stat().st_mtime_ns > before
    run(*call, "+tracker.online.min_size=20")  # another tracker
    assert len(list(cache.rglob("GOT-10k_Val_000001.txt"))) == 2


def test_a_folder_of_a_model_hub_is_scored(run, small_checkpoint, data, tmp_path):
    folder = tmp_path / "small-tracker"
    folder.mkdir()
    shutil.copy(small_checkpoint, folder / "model.safetensors")
    (result,) = results(run("eval", f"checkpoint={folder}", "benchmark=got10k", f"paths.data={data}"))
    assert result["bytes"] == small_checkpoint.stat().st_size
    assert result["checkpoint"] == str(folder / "model.safetensors")


def test_other_pictures_under_the_same_names_are_tracked_again(run, small_checkpoint, data, tmp_path):
    cache = tmp_path / "cache"
    call = ("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}", f"paths.cache={cache}")
    run(*call)
    black = cv2.imencode(".jpg", np.zeros((72, 96, 3), np.uint8))[1].tobytes()
    for path in (data / "got10k" / "val").rglob("*.jpg"):
        path.write_bytes(black)
    seen, dark = results(run(*call))
    assert seen["stages"]["evaluation"]["key"] != dark["stages"]["evaluation"]["key"]
    assert seen["metrics"]["got10k"]["AO"] != dark["metrics"]["got10k"]["AO"]


def test_a_video_that_is_added_to_an_interrupted_run_is_the_only_one_that_is_tracked(
    run, small_checkpoint, data, tmp_path
):
    """An interrupted evaluation of fewer videos is another one, and its boxes are good all the same."""
    cache, folder = tmp_path / "cache", data / "got10k" / "val"
    call = ("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}", f"paths.cache={cache}")
    broken = folder / "GOT-10k_Val_000002" / "00000004.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        run(*call)
    done = files(cache / "stages")
    broken.write_bytes(whole)
    shutil.copytree(folder / "GOT-10k_Val_000001", folder / "GOT-10k_Val_000003")
    (folder / "list.txt").write_text("".join(f"GOT-10k_Val_{i:06d}\n" for i in (3, 2, 1)))
    assert done.items() <= files(run(*call), "GOT*.txt").items(), "times and all: it was not tracked again"
    forced = files(run(*call, "force=true"), "GOT*.txt")
    assert not done.items() <= forced.items()


def test_a_test_split_is_packed_for_its_server(run, small_checkpoint, data, tmp_path, capsys):
    archive = tmp_path / "mine.zip"
    call = (f"checkpoint={small_checkpoint}", "benchmark=got10k_test", f"paths.data={data}")
    outputs = run("eval", *call, "action=submit", f"archive={archive}")
    assert not list(outputs.rglob("*.zip"))
    assert f"{archive}  for the server" in capsys.readouterr().out
    (record,) = results(outputs, "submission.json")
    assert record["archive"] == str(archive)
    assert record.keys() >= {"commit", "versions", "machine", "stages"}
    assert len(list(outputs.rglob("config.yaml"))) == 2, "ours, and Hydra's own in .hydra"
    with zipfile.ZipFile(archive) as file:
        names = [f"GOT-10k_Val_{i:06d}" for i in (1, 2)]
        assert file.namelist() == [m for n in names for m in (f"{n}/", f"{n}/{n}_001.txt", f"{n}/{n}_time.txt")]
        assert [len(file.read(f"{n}/{n}_001.txt").splitlines()) for n in names] == [6, 6]
    with pytest.raises(SystemExit) as stop:
        run("eval", *call)
    assert "cannot be scored" in stop.value.code
    assert "action=submit" in stop.value.code


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("action=sumbit", ("action=sumbit", "score, submit, open_loop")),
        ("action=submit", ("benchmark=got10k has no server", "got10k_test")),
        ("runner.workers=0", ("runner.workers=0", "runner.workers=1")),
    ],
)
def test_what_makes_no_sense_ends_in_one_message(run, small_checkpoint, data, override, words):
    call = (f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}")
    with pytest.raises(SystemExit) as stop:
        run("eval", *call, override)
    for word in words:
        assert word in stop.value.code


def test_the_toolkit_agrees_with_us(run, small_checkpoint, data, tmp_path):
    outputs = run("eval", f"checkpoint={small_checkpoint}", "benchmark=got10k", f"paths.data={data}")
    (result,) = results(outputs)
    (boxes,) = outputs.rglob("boxes/got10k")
    sequences = read_got10k(data / "got10k", "val")
    pack_got10k(boxes, sequences, tmp_path / "results.zip")
    theirs = tmp_path / "results" / "GOT-10k"
    with zipfile.ZipFile(tmp_path / "results.zip") as file:
        file.extractall(theirs / "ours")
    toolkit = ExperimentGOT10k(data / "got10k", "val", result_dir=theirs.parent, report_dir=tmp_path / "report")
    toolkit.run(Got10kTracker(load_tracker(small_checkpoint), "inside"))
    report = toolkit.report(["ours", "inside"])
    mine = result["metrics"]["got10k"]
    for name, key in (("ao", "AO"), ("sr", "SR0.5")):
        assert report["ours"]["overall"][name] == pytest.approx(mine[key], abs=1e-9)
        assert report["inside"]["overall"][name] == pytest.approx(mine[key], abs=2e-4)
    assert report["ours"]["overall"]["succ_curve"][75] == pytest.approx(mine["SR0.75"], abs=1e-9)
    for s in sequences:
        path = theirs / "inside" / s.name / f"{s.name}_001.txt"
        np.testing.assert_allclose(read_boxes(boxes, s), read_result(path), atol=1.1e-3)


def test_every_profile_scores_the_same_boxes(run, small_checkpoint, got10k, tmp_path):
    names = ["airplane-1", "bird-2"]
    hidden = [replace(s, absent=np.arange(len(s)) == len(s) - 1) for s in read_got10k(got10k, "val")]
    write_lasot(tmp_path / "data" / "lasot", dict(zip(names, hidden, strict=True)))
    call = (f"checkpoint={small_checkpoint}", f"paths.data={tmp_path / 'data'}", "benchmark=lasot")
    (result,) = results(run("eval", *call, f"benchmark.sequences.names=[{','.join(names)}]"))
    profiles = ("pytracking", "ostrack", "got10k")
    assert list(result["metrics"]) == [f"lasot/{p}" for p in profiles] == list(result["still_box"])
    for report, profile in zip(result["metrics"].values(), profiles, strict=True):
        assert report["protocol"] == f"one pass, {profile}, 2 of 280 sequences"
        assert report.keys() >= {"AUC", "OP50", "OP75", "P", "P_norm"}
        assert report["sequences"] == 2
    # Absent frames are failures for the one and frames like others to the other.
    assert result["still_box"]["lasot/pytracking"]["AUC"] < result["still_box"]["lasot/got10k"]["AUC"]


def test_trackingnet_is_packed_for_its_server(run, small_checkpoint, got10k, tmp_path, monkeypatch):
    write_trackingnet(tmp_path / "data" / "trackingnet" / "TEST", by_name(got10k), first_box_only=True)
    call = (f"checkpoint={small_checkpoint}", f"paths.data={tmp_path / 'data'}", "benchmark=trackingnet_test")
    call = ("eval", *call, "action=submit", f"archive={tmp_path / 'mine.zip'}", "runner.lockstep=2")
    with pytest.raises(SystemExit, match="results of all sequences, and 2 of 511 sequences are there"):
        run(*call)
    monkeypatch.setitem(SEQUENCES, "test", 2)
    run(*call)
    with zipfile.ZipFile(tmp_path / "mine.zip") as file:
        assert file.namelist() == ["GOT-10k_Val_000001.txt", "GOT-10k_Val_000002.txt"]
        assert all(len(line.split(b",")) == 4 for n in file.namelist() for line in file.read(n).splitlines())


def test_a_video_with_one_text_is_a_benchmark(run, small_checkpoint, got10k, tmp_path):
    sequence = read_got10k(got10k, "val")[0]
    video = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 72))
    for i in range(len(sequence)):
        video.write(sequence.image(i)[..., ::-1].copy())
    video.release()
    np.savetxt(tmp_path / "walk.txt", sequence.boxes, "%.3f", ",")
    call = (f"checkpoint={small_checkpoint}", "benchmark=folder", f"benchmark.sequences.root={tmp_path / 'walk.avi'}")
    outputs = run("eval", *call)
    (result,) = results(outputs)
    assert result["metrics"]["folder"]["frames"] == len(sequence) - 1
    assert len(files(outputs, "walk.txt")["walk.txt"].splitlines()) == len(sequence)


BAD_FRAMES = {  # the file that is spoilt, and how
    **{f"picture {n}, {kind}": (f"walk/{n}.jpg", change) for n in (1, 4) for kind, change in SPOIL.items()},
    **{f"video, {kind}": ("run.mp4", change) for kind, change in SPOIL.items()},
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_picture_or_video_of_a_benchmark_is_named(run, small_checkpoint, tmp_path, kind, capfd):
    spoilt, change = BAD_FRAMES[kind]
    data = tmp_path / "data"
    (data / "walk").mkdir(parents=True)
    for i in range(6):
        cv2.imwrite(str(data / "walk" / f"{i + 1}.jpg"), picture(i))
    write_video(data / "run.mp4", times=VARIABLE[:6])
    for annotation in (data / "walk" / "groundtruth.txt", data / "run.txt"):
        annotation.write_text("10,10,20,20\n" * 6)
    (data / spoilt).write_bytes(change((data / spoilt).read_bytes()))
    call = (f"checkpoint={small_checkpoint}", "benchmark=folder", f"benchmark.sequences.root={data}")
    with pytest.raises(SystemExit) as stop:
        run("eval", *call, f"paths.cache={tmp_path / 'cache'}")
    assert str(data / spoilt) in stop.value.code
    assert "Traceback" not in stop.value.code + capfd.readouterr().err
