"""Files of checkpoints: half precision, weights in memory, and what is never written."""

import pytest
import torch
from safetensors.torch import load_file

from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trackers.checkpoints.reading import read_checkpoint
from trackers.errors import CheckpointError


@pytest.fixture
def checkpoint(small_checkpoint):
    return load_checkpoint(small_checkpoint)


def test_half_a_file_is_read_as_single_precision(tmp_path, checkpoint):
    whole = checkpoint.save(tmp_path / "whole.safetensors")
    half = checkpoint.save(tmp_path / "half.safetensors", half=True)
    assert sum(w.nbytes for w in load_file(half).values()) < 0.52 * sum(w.nbytes for w in load_file(whole).values())
    trackers = [load_checkpoint(path).tracker for path in (whole, half)]
    assert {w.dtype for w in trackers[1].network.parameters()} == {torch.float32}
    inputs = checkpoint.tracker.example_inputs()
    with torch.inference_mode():
        expected, found = (tracker.network(**inputs) for tracker in trackers)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=0.02), name
        assert not torch.equal(found[name], value)


def test_a_file_has_the_rights_of_any_new_file(tmp_path, checkpoint):
    (tmp_path / "other").touch()
    file = checkpoint.save(tmp_path / "a.safetensors")
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_half_precision_cannot_hold_is_kept_whole(tmp_path, checkpoint):
    network = checkpoint.tracker.network
    name, norm = next((n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_var.fill_(8e5)
    found = load_checkpoint(checkpoint.save(tmp_path / "half.safetensors", half=True)).tracker.network
    assert torch.equal(found.get_submodule(name).running_var, norm.running_var)


def test_the_length_of_a_header_does_not_move_the_weights(tmp_path, checkpoint):
    for length in range(0, 64, 8):
        checkpoint.config = {"path": "x" * length}
        file = checkpoint.save(tmp_path / "a.safetensors")
        assert {w.data_ptr() % 64 for w in read_checkpoint(file).weights.values()} == {0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_of_a_diverged_training_are_never_written(tmp_path, checkpoint, value):
    with torch.no_grad():
        checkpoint.tracker.network.backbone.norm.bias[3] = value
    with pytest.raises(CheckpointError, match=r"not written: .*backbone\.norm\.bias.*lr_scale"):
        checkpoint.save(tmp_path / "diverged.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_nobody_could_read_is_never_written(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="a recipe is a mapping"):
        Checkpoint(checkpoint.tracker, {}).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
