"""If the numbers of one process are not finite, all processes that train together stop in the same step."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from evaluation.errors import UserError
from evaluation.study.finite_training import FiniteTraining
from tests.evaluation.study.test_finite_training import Poisoned
from tests.processes import join_two_ranks, quick_spawn
from tests.pruning.training import fit, loader

pytestmark = pytest.mark.attack  # processes of their own
CASES = {
    "loss": torch.inf,
    "gradient": torch.nan,
}  # this loss has finite gradients, so the other process sees none of it


def work(rank: int, folder: Path) -> None:
    """Trains in one of two processes; the numbers of rank 1 are wrong from step 3 on."""
    join_two_ranks(rank, folder)
    told = {}
    for where, value in CASES.items():
        module = Poisoned(where if rank else "nothing", value, step=3)
        strategy = DDPStrategy(cluster_environment=LightningEnvironment(), process_group_backend="gloo")
        options = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False, "max_steps": 6}
        try:
            fit(module, [FiniteTraining()], loader(), folder, **options)
        except UserError as error:
            told[where] = str(error)
    torch.save(told, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_both_ranks_stop_in_the_same_step(tmp_path):
    with quick_spawn():
        torch.multiprocessing.start_processes(work, (tmp_path,), nprocs=2, start_method="spawn")
    healthy, wrong = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert healthy.keys() == wrong.keys() == CASES.keys()
    for where in CASES:
        assert "step 3" in healthy[where]
        assert "step 3" in wrong[where]
    assert "loss error is not finite" in wrong["loss"]
    assert "loss of another process is not finite" in healthy["loss"]
    assert "gradient of fc1.weight" in wrong["gradient"]
