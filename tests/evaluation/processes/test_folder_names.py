"""Names of trackers and checkpoints in the names of folders."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from evaluation.commands.evaluated_tracker import tracker_names
from evaluation.processes.folder_names import checkpoint_name, tracker_name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("weights/ostrack_tiny.safetensors", "ostrack_tiny"),
        ("OSTrack_ep0300.pth.tar", "OSTrack_ep0300"),
        ("outputs/studies/a/4_dimp_ratio0.5_seed0/checkpoint.safetensors", "4_dimp_ratio0.5_seed0"),
        ("hub/small-tracker/model.safetensors", "small-tracker"),
        (OmegaConf.create(["a.pth", "b/checkpoint.safetensors"]), "a_b"),
        ("my tracker: it's, new.pth", "my-tracker-it-s-new"),
        (f"{'a' * 300}.pth", "a" * 100),
        (99 * "\N{HIRAGANA LETTER A}" + ".pth", 33 * "\N{HIRAGANA LETTER A}"),
        ("...", "unnamed"),
    ],
)
def test_a_checkpoint_has_the_name_of_its_file_or_of_its_folder(file, name):
    assert checkpoint_name(file) == name


def test_a_checkpoint_in_a_folder_with_a_date_has_the_name_of_its_job(tmp_path: Path):
    contents = {"a": torch.zeros(1)}, {"config": json.dumps({"job": {"tracker": "dimp"}, "ratio": 0.25})}
    files = [tmp_path / day / "checkpoint.safetensors" for day in ("2026-01-31_12-00-00", "2026-01-31_13-00-00", "a")]
    for file in files:
        file.parent.mkdir()
        save_file(contents[0], file, contents[1])
    assert [checkpoint_name(file) for file in files] == ["dimp_ratio0.25", "dimp_ratio0.25", "a"]
    assert tracker_names([str(file) for file in files]) == [
        "2026-01-31_12-00-00/dimp_ratio0.25",
        "2026-01-31_13-00-00/dimp_ratio0.25",
        "a",
    ]
    assert checkpoint_name("/no/2026-01-31_12-00-00/checkpoint.safetensors") == "2026-01-31_12-00-00"


def test_a_tracker_has_its_given_name_or_that_of_its_class_or_of_its_file(small_checkpoint, tmp_path: Path):
    assert tracker_name("mine/net", small_checkpoint) == "mine-net"
    assert tracker_name(None, small_checkpoint) == "ostrack"
    (tmp_path / "SuperDiMP.pth.tar").write_bytes(b"no checkpoint")
    assert tracker_name(None, tmp_path / "SuperDiMP.pth.tar") == "SuperDiMP"
    assert tracker_name(None, "/nowhere/dimp50.pth") == "dimp50"
