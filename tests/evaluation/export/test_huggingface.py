"""A folder for a model hub: it is loaded as it is, its card is valid, its example runs, and it names no folder."""

import json
import re

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from evaluation.errors import UserError
from evaluation.export.huggingface import write_huggingface_folder
from tests.test_docs import write_video
from trackers import load_checkpoint, load_tracker
from trackers.checkpoints.checkpoint import Checkpoint

CONFIG = {
    "ratio": 0.25,
    "seed": 3,
    "scale": "tiny",
    "job": {"tracker": "ostrack", "method": "slim"},
    "checkpoint": "/home/alice/parent.safetensors",
    "paths": {"data": "/home/alice/data"},
    "datamodule": {
        "_target_": "datamodules.module.TrackingDataModule",
        "train": {"got10k": {"root": "/home/alice", "weight": 1.0}, "scenes": {"weight": 0.0}},
    },
    "stages": {"parent": {"steps": 1000}, "sparsity": {"steps": 60}, "child": {"steps": 2000}},
}
REPORT = {"protocol": "GOT-10k", "AO": 0.5, "SR0.5": 0.625, "sequences": 20, "frames": 1000}


@pytest.fixture(scope="module")
def child(tmp_path_factory, small_checkpoint):
    """A checkpoint with the result of its job beside it."""
    loaded = load_checkpoint(small_checkpoint)
    metrics = {"ratio_achieved": 0.25, "undefined": float("nan")}
    file = tmp_path_factory.mktemp("job") / "0_ostrack" / "checkpoint.safetensors"
    Checkpoint(loaded.tracker, loaded.recipe, loaded.plan, metrics, CONFIG).save(file)
    result = {"bytes": file.stat().st_size, "metrics": {"got10k": REPORT}}
    (file.parent / "result.json").write_text(json.dumps(result))
    return file


@pytest.fixture
def folder(child, tmp_path):
    return write_huggingface_folder(child, tmp_path / "small-tracker", "cc-by-nc-sa-4.0")


def test_it_is_loaded_as_it_is_and_tracks_like_the_checkpoint(child, folder):
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    answers = []
    for tracker in (load_tracker(child), load_tracker(folder)):
        tracker.init(image, (20, 20, 16, 12))
        answers.append(tracker.update(image))
    assert answers[0] == answers[1]
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "ostrack"
    assert config["metrics"] == {"ratio_achieved": 0.25, "undefined": None, "scores": {"got10k": REPORT}}
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}


def test_no_path_of_this_machine_is_in_it(folder):
    assert not [path.name for path in folder.iterdir() if b"alice" in path.read_bytes()]
    assert load_checkpoint(folder).config == {
        "job": CONFIG["job"],
        "scale": "tiny",
        "ratio": 0.25,
        "seed": 3,
        "stages": {"sparsity": {"steps": 60}, "child": {"steps": 2000}},
        "data": ["got10k"],
    }


def test_the_card_is_valid_and_says_scores_with_their_protocol(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.model_name == "0_ostrack"
    assert (card.data.license, card.data.library_name) == ("cc-by-nc-sa-4.0", "light-weight-trackers")
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"AO (GOT-10k)": 0.5, "SR0.5 (GOT-10k)": 0.625}
    assert "| got10k | GOT-10k | AO | 0.500 | 20 |" in card.text
    assert "- data: got10k\n" in card.text


def test_the_example_of_the_card_runs(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    write_video(folder.parent / "walk.mp4")
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 8
    names: dict = {}
    exec(code, names)
    assert 0 <= names["score"] <= 1


def test_a_checkpoint_without_history_says_so(small_checkpoint, tmp_path):
    half = load_checkpoint(small_checkpoint).save(tmp_path / "half.safetensors", half=True)
    (tmp_path / "result.json").write_text('{"bytes": 1, "metrics": {"got10k": {"AO": 0.9}}}')  # of another file
    folder = write_huggingface_folder(half, tmp_path / "folder")
    text = (folder / "README.md").read_text()
    assert "The file holds no scores." in text
    assert "does not say on which data" in text
    assert ModelCard.load(folder / "README.md").data.license == "unknown"
    weights = load_checkpoint(half).tracker.network.state_dict()
    assert (folder / "model.safetensors").stat().st_size < 1.1 * half.stat().st_size
    found = load_checkpoint(folder).tracker.network.state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_card_that_is_there_stays_and_a_file_is_no_folder(child, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    write_huggingface_folder(child, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(UserError, match=r"README\.md is a file; give a folder"):
        write_huggingface_folder(child, tmp_path / "README.md")


@pytest.mark.attack
def test_the_command_writes_the_folder_and_refuses_what_it_would_leave_out(run, small_checkpoint, tmp_path):
    call = ("action=export", "format=huggingface", f"folder={tmp_path / 'folder'}")
    with pytest.raises(SystemExit, match="leave the changes"):
        run("eval", f"checkpoint={small_checkpoint}", "+tracker.online.min_size=9", *call)
    with pytest.raises(SystemExit, match="takes one checkpoint"):
        run("eval", f"checkpoint=[{small_checkpoint},weights/dimp_tiny.safetensors]", *call)
    assert not (tmp_path / "folder").exists()
    run("eval", f"checkpoint={small_checkpoint}", *call)
    assert load_checkpoint(tmp_path / "folder").recipe == load_checkpoint(small_checkpoint).recipe
