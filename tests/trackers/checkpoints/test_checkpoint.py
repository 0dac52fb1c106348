"""Files of checkpoints: half precision, and weights in memory."""

import torch

from tests.trackers.networks import small_ostrack
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trackers.checkpoints.reading import read_checkpoint


def test_half_a_file_is_read_as_single_precision(tmp_path, monkeypatch):
    tracker = small_ostrack(elimination=None)
    monkeypatch.setattr("trackers.checkpoints.checkpoint.build_tracker", lambda recipe: small_ostrack(elimination=None))
    whole = Checkpoint(tracker, {}).save(tmp_path / "whole.safetensors")
    half = Checkpoint(tracker, {}).save(tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.52 * whole.stat().st_size
    assert all(w.dtype == torch.float32 for w in read_checkpoint(half).weights.values() if w.is_floating_point())
    inputs = tracker.example_inputs()
    with torch.inference_mode():
        expected, found = (load_checkpoint(path).tracker.network(**inputs) for path in (whole, half))
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=0.02), name
        assert not torch.equal(found[name], value)


def test_what_half_precision_cannot_hold_is_kept_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("trackers.checkpoints.checkpoint.build_tracker", lambda recipe: small_ostrack(elimination=None))
    tracker = small_ostrack(elimination=None)
    name, norm = next((n, m) for n, m in tracker.network.named_modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_var.fill_(8e5)
    file = Checkpoint(tracker, {}).save(tmp_path / "half.safetensors", half=True)
    found = load_checkpoint(file).tracker.network.get_submodule(name)
    assert torch.equal(found.running_var, norm.running_var)


def test_the_length_of_a_header_does_not_move_the_weights(tmp_path):
    tracker = small_ostrack(elimination=None)
    for length in range(0, 64, 8):
        file = Checkpoint(tracker, {}, config={"path": "x" * length}).save(tmp_path / "a.safetensors")
        assert {w.data_ptr() % 64 for w in read_checkpoint(file).weights.values()} == {0}
