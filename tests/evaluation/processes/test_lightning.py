"""The trainer that a job builds is the one that its settings ask for."""

import pytest

from evaluation.errors import UserError
from evaluation.processes.lightning import build_trainer

SETTINGS = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precisions_of_a_cpu(precision):
    assert build_trainer(SETTINGS | {"precision": precision}).precision == precision


def test_a_precision_that_lightning_would_replace():
    with pytest.raises(UserError, match=r"precision=16-mixed is not for this device.*precision=bf16-mixed"):
        build_trainer(SETTINGS | {"precision": "16-mixed"})


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"devices": -5}, {"accelerator": "abacus"}])
def test_settings_that_make_no_trainer(wrong):
    with pytest.raises(UserError, match="make no trainer"):
        build_trainer(SETTINGS | {"precision": "32-true"} | wrong)
