"""Names of trackers and checkpoints in the names of folders."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from evaluation.processes.folder_names import checkpoint_name, tracker_name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("weights/ostrack_tiny.safetensors", "ostrack_tiny"),
        ("OSTrack_ep0300.pth.tar", "OSTrack_ep0300"),
        ("outputs/studies/a/4_dimp_ratio0.5_seed0/checkpoint.safetensors", "4_dimp_ratio0.5_seed0"),
        (OmegaConf.create(["a.pth", "b/checkpoint.safetensors"]), "a_b"),
        ("my tracker: it's, new.pth", "my-tracker-it-s-new"),
        (f"{'a' * 300}.pth", "a" * 100),
        (99 * "\N{HIRAGANA LETTER A}" + ".pth", 33 * "\N{HIRAGANA LETTER A}"),
        ("...", "unnamed"),
    ],
)
def test_a_checkpoint_has_the_name_of_its_file_or_of_its_folder(file, name):
    assert checkpoint_name(file) == name


def test_a_tracker_has_its_given_name_or_that_of_its_class_or_of_its_file(small_checkpoint, tmp_path: Path):
    assert tracker_name("mine/net", small_checkpoint) == "mine-net"
    assert tracker_name(None, small_checkpoint) == "ostrack"
    (tmp_path / "SuperDiMP.pth.tar").write_bytes(b"no checkpoint")
    assert tracker_name(None, tmp_path / "SuperDiMP.pth.tar") == "SuperDiMP"
    assert tracker_name(None, "/nowhere/dimp50.pth") == "dimp50"
