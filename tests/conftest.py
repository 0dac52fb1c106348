"""What many tests need: a small world on disk, and runs of the three scripts inside of this process."""

import gc
import importlib
import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.processes import quick_spawn

# Whatever imports torch is imported by the fixtures: the process that only deals tests out does without.
NO_NETWORK = Path(__file__).parent / "no_network"
CONF = Path(__file__).parent.parent / "conf"
SMALL_WORLD = [
    *("synthetic.width=96", "synthetic.height=72", "synthetic.train.sequences=3", "synthetic.train.frames=20"),
    *("synthetic.train.stride=2", "synthetic.val.sequences=2", "synthetic.val.frames=6"),
]
SMALL_NETWORK = [
    *("tracker.vit.embed_dim=24", "tracker.vit.depth=2", "tracker.vit.num_heads=2"),
    *("tracker.vit.stem_hidden=8", "tracker.head_channels=[8,8]"),
]
SHORT_STAGES = [
    *("stages.parent.steps=4", "stages.sparsity.steps=6", "stages.child.steps=2", "datamodule.batch_size=2"),
    *("datamodule.samples_per_epoch=4", "datamodule.workers=0"),
    *("trainer.accelerator=cpu", "logger=none"),
]


def deselect(config: pytest.Config, items: list[pytest.Item], marker: str) -> None:
    """Takes the tests with a marker out of `items` and reports them as deselected."""
    left_out = [item for item in items if item.get_closest_marker(marker)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker(marker)]


def pytest_configure(config: pytest.Config) -> None:
    """Keeps this process and all that it starts from the network, see `tests/no_network/sitecustomize.py`."""
    handle, name = tempfile.mkstemp(prefix="network", suffix=".log")  # each worker of pytest-xdist has its own
    os.close(handle)
    config.add_cleanup(Path(name).unlink)
    os.environ["TESTS_NETWORK_LOG"] = name
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(NO_NETWORK), *filter(None, paths)]))
    nowhere = {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "localhost,127.0.0.1",
    }
    os.environ |= nowhere | {name.upper(): value for name, value in nowhere.items()}
    runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Fails a test that tried to reach the network, also when a library has swallowed the error."""
    log = Path(os.environ["TESTS_NETWORK_LOG"])
    before = log.stat().st_size
    yield
    if log.stat().st_size > before:
        pytest.fail(f"a test tried to reach the network: {log.read_text()[before:]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        deselect(config, items, "gpu")


def pytest_collection_finish() -> None:
    # Imports create millions of long-lived objects. Freezing them keeps the garbage collector from scanning them again.
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or libraries complain at the exit that they leak


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # tiny networks; more threads only wait for each other


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the small world, shared by all tests."""
    folder = tmp_path_factory.mktemp("cache")
    write_small_world(folder)
    return folder


@pytest.fixture(scope="session")
def got10k(cache: Path) -> Path:
    """The small world's folder in the layout of GOT-10k. No test may change it."""
    return write_small_world(cache) / "got10k"


@pytest.fixture
def fresh_cache(got10k: Path, tmp_path: Path) -> Path:
    """A cache of one test. It holds the small world, which processes of its own would have to render, and no stage."""
    folder = tmp_path / "cache"
    shutil.copytree(got10k.parent, folder / got10k.parent.name)
    return folder


def write_small_world(cache: Path) -> Path:
    """Returns the folder of the small world in a cache; it is made if it is not there."""
    from datamodules.synthetic import ensure_synthetic

    return ensure_synthetic(small_set(), cache, workers=1)


def small_set() -> Any:
    """Returns the specification of the small world."""
    from datamodules.synthetic import SplitSpec, SyntheticSet

    return SyntheticSet(0, 96, 72, SplitSpec(3, 20, 2), SplitSpec(2, 6, 1))


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny OSTrack with random weights. No test may change it."""
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from trackers.checkpoints.checkpoint import Checkpoint, build_tracker

    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        recipe = OmegaConf.to_container(compose("train", SMALL_NETWORK).tracker, resolve=True)
    torch.manual_seed(0)
    return Checkpoint(build_tracker(recipe), recipe).save(tmp_path_factory.mktemp("tracker") / "checkpoint.safetensors")


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Callable[..., Path]:
    """`run("train", "ratio=0.5")` runs a script with small settings and returns the folder of its outputs."""
    return partial(run_script, cache, tmp_path / "outputs")


@pytest.fixture(scope="session")
def half(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of `run("train", "ratio=0.5")`. No test may change them."""
    return run_script(cache, tmp_path_factory.mktemp("half") / "outputs", "train", "ratio=0.5")


def run_script(cache: Path, outputs: Path, script: str, *overrides: str) -> Path:
    """Runs a script in this process, with small settings. Returns `outputs`, the folder of its outputs.

    Latencies are measured in few rounds. Hydra does not compose the configuration once more to read `hydra.mode` in it.
    """
    from hydra._internal import utils
    from hydra._internal.hydra import Hydra

    from evaluation.export.timing import network_latency
    from pruning.cost import turns

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "WARMUP", 1)
        patch.setattr(turns, "RUNS", 3)
        patch.setattr(network_latency, "BLOCKS", 1)  # a busy machine would measure four times as long
        patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        patch.setattr(utils, "is_under_debugger", lambda: False)  # Hydra takes the tracer of coverage for one
        given = [f"paths.cache={cache}", f"paths.outputs={outputs}", *SMALL_WORLD]
        given += SHORT_STAGES if script != "eval" else []
        given += SMALL_NETWORK if script == "train" and not any(o.startswith("tracker=") for o in overrides) else []
        flags = [o for o in overrides if o.startswith("-")] + [f"--config-path={CONF}"]
        patch.setattr(sys, "argv", [f"{script}.py", *flags, *given, *(o for o in overrides if o not in flags)])
        importlib.import_module(script).main()
    return outputs


@pytest.fixture
def spawned_quickly() -> Iterator[None]:
    """Processes that the product spawns start at once, see `quick_spawn`."""
    with quick_spawn():
        yield


def results(outputs: Path, name: str = "result.json") -> list[dict]:
    """All results below a folder, by job name."""
    return [json.loads(p.read_text()) for p in sorted(outputs.rglob(name))]
