"""A stage on two processes has the same results on both processes, and the same as on one process."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pruning.criteria import Random
from tests.processes import join_two_ranks, quick_spawn
from tests.pruning.training import METHODS, fit, loader, pruning, weights

pytestmark = pytest.mark.attack  # processes of their own

STAGES = [
    (method, frozen)
    for method in ("slim", "taylor", "magnitude", "depth", *(["chipnet"] if "chipnet" in METHODS else []))
    for frozen in (False, True)
    if not (frozen and method in ("magnitude", "depth"))
]
CARRY_GATES = ("embed.weight", "embed.bias", "fc2.weight")  # but for square.weight, which is trained in any case


def stage(method: str, frozen: bool, data: DataLoader, root: Path, **options: object) -> dict[str, Tensor]:
    """Trains for 12 steps and returns everything that must be equal on all ranks."""
    module, callback = METHODS[method].module(), pruning(method, every=3)
    for name in CARRY_GATES if frozen else ():
        module.network.get_parameter(name).requires_grad_(False)
    fit(module, [callback], data, root, max_epochs=2, gradient_clip_val=0.5, **options)
    own = {f"network.{name}": w for name, w in weights(module).items()}
    gates = {"mask": callback.gates.mask, "values": callback.gates.values.detach()}
    scores = {f"scores.{name}": s for name, s in callback.criterion(callback.gates).items()}
    return {name: value.clone() for name, value in (own | gates | scores).items()}


def share(rank: int) -> DataLoader:
    """Returns every other sample: both ranks together see the batches of one process with twice the batch size."""
    return DataLoader(TensorDataset(*(t[rank::2] for t in loader(8, 6).dataset.tensors)), batch_size=4)


def work(rank: int, folder: Path) -> None:
    """Runs the stages in one of the two processes."""
    join_two_ranks(rank, folder)
    found = {}
    for method, frozen in STAGES:
        strategy = DDPStrategy(cluster_environment=LightningEnvironment(), process_group_backend="gloo")
        mine = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False}  # Lightning's would shuffle
        found[method, frozen] = stage(method, frozen, share(rank), folder, **mine)
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), process_group_backend="gloo")
    module, callback = METHODS["random"].module(), pruning("random", every=3)
    callback.criterion = Random(seed=rank)
    options = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False, "max_epochs": 2}
    fit(module, [callback], share(rank), folder, **options)
    found["apart"] = {"mask": callback.gates.mask, "plan": callback.plan.to_dict()} | weights(module)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Returns the results of both ranks, by stage.

    The processes are started here and not by Lightning (`ddp_spawn`), which would start two for every stage: importing
    Lightning takes longer than all stages together. They are spawned, as a fork would inherit the threads and locks of
    whatever other tests left running. A spawned process finds its work by module and name: `work` must stay at the top.
    """
    folder = tmp_path_factory.mktemp("ranks")
    with quick_spawn():
        torch.multiprocessing.start_processes(work, (folder,), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(("method", "frozen"), STAGES)
def test_both_ranks_end_with_the_same_weights_and_plan(method: str, frozen: bool, ranks: list[dict]) -> None:
    first, second = (found[method, frozen] for found in ranks)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    assert not first["mask"].all()


def test_ranks_that_rank_units_differently_cut_the_same(ranks: list[dict]) -> None:
    first, second = (found["apart"] for found in ranks)
    assert first.pop("plan") == second.pop("plan")
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert not first["mask"].all()


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*", "ignore:.*LeafSpec.*")
@pytest.mark.parametrize(("method", "frozen"), STAGES)
def test_two_ranks_are_one_with_the_joint_batch(method: str, frozen: bool, ranks: list[dict], tmp_path: Path) -> None:
    alone = stage(method, frozen, loader(8, 6), tmp_path)
    both = ranks[0][method, frozen]
    assert torch.equal(both["mask"], alone["mask"])
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*", "ignore:.*LeafSpec.*")
def test_a_rank_without_the_other_one_ends_with_other_gates(ranks: list[dict], tmp_path: Path) -> None:
    """Checks that one rank alone ends with other gates, so that the tests above are meaningful."""
    alone, both = stage("slim", True, share(0), tmp_path), ranks[0]["slim", True]
    assert (alone["values"] - both["values"]).abs().max() > 1e-3
