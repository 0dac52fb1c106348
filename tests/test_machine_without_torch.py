"""A machine without PyTorch has the dependency group `runtime` and our packages, and runs an export like PyTorch."""

import importlib.metadata
import json
import re
import subprocess
import sysconfig
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

from evaluation.export.conversion.export_folder import write_export
from evaluation.installation import ROOT
from tests.conftest import NO_NETWORK
from trackers import load_checkpoint, load_tracker

pytestmark = pytest.mark.attack
# The tests have the same OpenCV with windows.
INSTALLED_AS = {"opencv-python-headless": "opencv-python"}
TRACKS = """
import json, sys, numpy
from importlib.util import find_spec
from trackers import load_tracker
tracker = load_tracker(sys.argv[1])
images = numpy.load(sys.argv[2])
tracker.init(images[0], (30, 20, 24, 18))
found = [tracker.update(image) for image in images[1:]]
missing = [name for name in ("torch", "torchvision", "timm", "hydra", "safetensors", "PIL") if find_spec(name)]
print(json.dumps({"boxes": [answer[0] for answer in found], "there": missing}))
"""


def names_of(requirements: list[str]) -> set[str]:
    """The distributions that these requirements need, with those that they need in turn."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = INSTALLED_AS.get(requirement.name, requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of a new environment with the group `runtime` and our packages, and with nothing else."""
    folder = tmp_path_factory.mktemp("machine")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in names_of(project["dependency-groups"]["runtime"]):
        files = importlib.metadata.files(name)
        assert files, name
        for top in {path.parts[0] for path in files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(sysconfig.get_path("purelib")) / top)
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        (packages / package).symlink_to(ROOT / package)
    return folder / "bin" / "python"


def test_it_runs_an_export_and_finds_the_boxes_of_pytorch(python, small_checkpoint, tmp_path):
    export = tmp_path / "export"
    write_export(load_checkpoint(small_checkpoint).tracker, export, "onnx", "fp32", {}, frames=3)
    images = np.random.default_rng(0).integers(0, 255, (4, 72, 96, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    command = [python, "-c", TRACKS, export, tmp_path / "images.npy"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(NO_NETWORK)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["there"] == []
    tracker = load_tracker(small_checkpoint)
    tracker.init(images[0], (30, 20, 24, 18))
    np.testing.assert_allclose(said["boxes"], [tracker.update(image)[0] for image in images[1:]], atol=0.01)


def test_a_checkpoint_there_is_one_clear_error(python, small_checkpoint, tmp_path):
    code = "import sys; from trackers import load_tracker; load_tracker(sys.argv[1])"
    done = subprocess.run([python, "-c", code, small_checkpoint], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"action=export", done.stderr.splitlines()[-1]), done.stderr
