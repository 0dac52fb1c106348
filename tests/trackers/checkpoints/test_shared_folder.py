"""Folders of a model hub: the header of the weights builds the tracker, and `config.json` must not contradict it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from trackers import load_checkpoint, load_tracker
from trackers.checkpoints.reading import read_checkpoint
from trackers.checkpoints.shared_folder import checkpoint_file
from trackers.contents import CheckpointError


@pytest.fixture
def folder(tmp_path, small_checkpoint):
    """A folder with weights and the `config.json` that belongs to them."""
    shutil.copy(small_checkpoint, tmp_path / "model.safetensors")
    contents = read_checkpoint(small_checkpoint)
    repeated = {"recipe": contents.recipe, "plan": contents.plan.to_dict(), "metrics": contents.metrics}
    (tmp_path / "config.json").write_text(json.dumps({"transformers_version": "5"} | repeated))
    return tmp_path


def change(folder, edit):
    said = json.loads((folder / "config.json").read_text())
    edit(said)
    (folder / "config.json").write_text(json.dumps(said))


def test_a_folder_is_loaded_like_its_file(folder, small_checkpoint):
    weights = load_checkpoint(small_checkpoint).tracker.network.state_dict()
    for path in (folder, str(folder), folder / "model.safetensors"):
        found = load_tracker(path).tracker.network.state_dict()
        assert all(torch.equal(found[name], weights[name]) for name in weights)
    (folder / "config.json").unlink()
    load_tracker(folder)


def test_a_number_that_another_program_wrote_again_is_no_contradiction(folder):
    change(folder, lambda said: said["recipe"]["online"].update(min_size=int(said["recipe"]["online"]["min_size"])))
    load_tracker(folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda said: said["recipe"]["online"].update(min_size=7.5), r"recipe\.online\.min_size is 7\.5 there, and 4"),
        (lambda said: said["recipe"].update(_target_="os.system"), r"recipe\._target_ is 'os\.system' there"),
        (lambda said: said["recipe"].pop("search"), r"recipe\.search is in one of them only"),
        (lambda said: said["plan"].update({"backbone.width": [0]}), r"plan\.backbone\.width is in one of them only"),
        (lambda said: said["metrics"].update(AO=0.99), r"metrics\.AO is in one of them only"),
        (lambda said: said.update(recipe=True), r"recipe is True there"),
    ],
)
def test_a_contradiction_names_its_place_and_both_values(folder, edit, words):
    change(folder, edit)
    with pytest.raises(CheckpointError, match=rf"config\.json contradicts model\.safetensors.*{words}"):
        load_tracker(folder)


DEEP = 50_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "is a list, not a mapping"),
        ('{"recipe": {"a": 1, "a": 2}}', "the key 'a' is given twice"),
        ('{"metrics": ' + '{"a": ' * DEEP + "1" + "}" * DEEP + "}", "is no JSON"),
        ('{"a": "' + "a" * 9_000_000 + '"}', "has more than"),
        ("\xff", "is no JSON"),
    ],
    ids=["cut off", "list", "twice", "deep", "large", "no UTF-8"],
)
def test_a_config_that_cannot_be_read_is_one_line(folder, text, words):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=words) as error:
        load_tracker(folder)
    assert str(folder / "config.json") in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_folder_of_another_library_keeps_its_config(tmp_path):
    save_file({"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"recipe": {"architecture": "vit"}}')
    assert read_checkpoint(tmp_path).recipe is None


def test_only_a_folder_with_weights_stands_for_a_file(tmp_path):
    assert checkpoint_file(tmp_path) == tmp_path
    assert checkpoint_file("a" * 300).name == "a" * 300
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="a folder at"):
        load_tracker(tmp_path)
