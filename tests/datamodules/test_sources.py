"""Sources: a copy of parts of several data sets can be used once the settings are those that the messages name."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datamodules.errors import DataError
from datamodules.readers.completeness import not_found
from datamodules.sources import Source, read_sources
from tests.conftest import CONF


def write_video(frames: Path, annotation: Path) -> None:
    frames.mkdir(parents=True)
    for i in range(6):
        cv2.imwrite(str(frames / f"{i}.jpg"), np.zeros((48, 64, 3), np.uint8))
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text("10,10,20,20\n" * 6)


def test_messages_lead_to_a_training_on_what_is_there(tmp_path, got10k, caplog):
    shutil.copytree(got10k, tmp_path / "got10k")
    shutil.rmtree(tmp_path / "got10k" / "train" / "GOT-10k_Train_000003")
    shutil.rmtree(tmp_path / "got10k" / "val" / "GOT-10k_Val_000002")
    write_video(tmp_path / "LaSOT" / "car" / "car-1" / "img", tmp_path / "LaSOT" / "car" / "car-1" / "groundtruth.txt")
    chunk = tmp_path / "trackingnet" / "TRAIN_1"
    write_video(chunk / "frames" / "a", chunk / "anno" / "a.txt")
    shutil.copy(chunk / "anno" / "a.txt", chunk / "anno" / "b.txt")
    settings = [f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}", "datamodule.val_samples=2"]
    settings += ["datamodule.sampler.min_frames=5", "datamodule.sampler.min_visible=2"]
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        cfg = compose("train", ["datamodule=mixed", *settings])
    advice, told = [], []
    while len(advice) < 20:
        try:
            instantiate(cfg.datamodule).check()
            break
        except DataError as error:
            told.append(str(error).splitlines())
            name, value = re.search(r"(datamodule\.[\w.]+)=([^; ]+)", str(error)).groups()  # the first advice
            advice.append(name)
            OmegaConf.update(cfg, name, OmegaConf.create(f"value: {value}").value)
    sources = ["lasot", "got10k", "coco", "trackingnet"]
    assert [re.findall(r"datamodule\.train\.(\w+)\.weight=0", line) for line in told[0]] == [[n] for n in sources]
    assert advice == [
        "datamodule.train.lasot.read.root",
        "datamodule.train.lasot.read.only_complete",
        "datamodule.train.got10k.read.only_complete",
        "datamodule.train.coco.weight",
        "datamodule.train.trackingnet.read.chunks",
        "datamodule.train.trackingnet.read.only_complete",
        "datamodule.val.got10k.read.only_complete",
    ]
    assert "datamodule.train.lasot: uses 1 of 1,120 sequences, which are there" in caplog.text


def nothing_at(root: Path, data_set: str):
    def read():
        raise not_found(data_set, root, "train", lambda folder: False)

    return Source(read, 1.0)


def test_a_wrong_folder_of_several_data_sets_is_one_message(tmp_path):
    sources = {"got10k": nothing_at(tmp_path / "got10k", "GOT-10k"), "coco": nothing_at(tmp_path / "coco", "COCO")}
    with pytest.raises(DataError) as error:
        read_sources("train", sources)
    assert str(error.value) == (
        f"no data of 2 data sets: GOT-10k at {tmp_path}/got10k, COCO at {tmp_path}/coco. Set paths.data to the folder "
        "that holds got10k and coco, e.g. paths.data=/data, or leave a data set out, e.g. "
        "datamodule.train.coco.weight=0"
    )
