"""Readers, one file per data set. Each turns the official layout into a `SequenceTable` for training and scoring."""

from datamodules.readers.coco import read_coco
from datamodules.readers.folder import read_folder
from datamodules.readers.got10k import read_got10k
from datamodules.readers.lasot import read_lasot
from datamodules.readers.nfs import read_nfs
from datamodules.readers.otb import read_otb
from datamodules.readers.trackingnet import read_trackingnet
from datamodules.readers.uav123 import read_uav123

__all__ = [
    "read_coco",
    "read_folder",
    "read_got10k",
    "read_lasot",
    "read_nfs",
    "read_otb",
    "read_trackingnet",
    "read_uav123",
]
