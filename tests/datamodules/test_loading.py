"""Loader processes and the numbers of samples that they load."""

import os

import torch
from torch.utils.data import DataLoader

from datamodules.loading import EpochSampler, start_worker


def test_every_epoch_has_new_samples():
    assert list(EpochSampler(3, lambda: 0)) == [0, 1, 2]
    assert list(EpochSampler(3, lambda: 6)) == [6, 7, 8]


class Environment(torch.utils.data.Dataset):
    """One sample: what a worker finds in its environment."""

    def __len__(self):
        return 1

    def __getitem__(self, _):
        return os.environ.get("KEEPS_MEMORY", "no")


def test_loader_workers_keep_freed_memory(monkeypatch):
    monkeypatch.setattr("datamodules.loading.keep_freed_memory", lambda: os.environ.update(KEEPS_MEMORY="yes"))
    (found,) = DataLoader(Environment(), None, num_workers=1, worker_init_fn=start_worker)
    assert found == "yes"
