"""The wheel works in an environment of its own, away from the checkout; a foreign package is one clear error."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from evaluation import installation
from evaluation.installation import PACKAGES, ROOT
from tests.conftest import NO_NETWORK, SHORT_STAGES, SMALL_NETWORK, SMALL_WORLD

pytestmark = pytest.mark.attack


def said_by(command: list[str | Path], folder: Path, paths: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{NO_NETWORK}:{paths}".rstrip(":")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel and what it depends on, but without the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    # Python reads no .pth file of the folder that it finds in a .pth file, so the editable install is not seen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--force-reinstall", "--ignore-installed", wheel], check=True)
    return python.parent


def test_the_wheel_has_every_file_of_the_packages_and_of_the_configuration(wheel):
    tracked = subprocess.run(["git", "ls-files", *PACKAGES, "conf"], cwd=ROOT, capture_output=True, text=True).stdout
    if not tracked:
        pytest.skip("no git repository")
    wanted = {f"light_weight_trackers/{p}" if p.startswith("conf/") else p for p in tracked.split("\n") if p}
    wanted |= {f"light_weight_trackers/{module}.py" for module in ("__init__", "train", "prune", "eval", "vot")}
    wanted -= {"evaluation/installation.py", "evaluation/export/vot_tracker.py"}  # __init__.py and vot.py of the above
    held = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - held == set()
    assert {name.split("/")[0].split("-")[0] for name in held} == {"light_weight_trackers", *PACKAGES}


@pytest.mark.parametrize(
    ("command", "choice"), [("train", "tracker=dimp"), ("prune", "pruning=depth"), ("eval", "benchmark=otb100")]
)
def test_a_command_of_the_wheel_composes_its_configuration(programs, tmp_path, command, choice):
    said = said_by([programs / f"lwt-{command}", "--cfg", "job", choice, "paths.data=here"], tmp_path)
    assert said.stderr == ""
    assert "data: here" in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_command_of_the_wheel_is_a_module_too(programs, tmp_path):
    said = said_by([programs / "python", "-m", "light_weight_trackers.train", "--help"], tmp_path)
    assert "ratio=0.25" in said.stdout


def test_the_command_of_the_wheel_for_the_vot_toolkit_names_a_missing_file(programs, tmp_path):
    said = said_by([programs / "lwt-vot", "child.safetensors"], tmp_path)
    assert said.returncode == 1
    [line] = said.stderr.splitlines()
    assert line.startswith(f"error: no checkpoint at {tmp_path / 'child.safetensors'}")


def test_the_wheel_loads_a_tracker_by_its_recipe_and_by_a_published_one(programs, tmp_path, small_checkpoint):
    code = (
        "import sys, numpy, trackers, trackers.published\n"
        "tracker = trackers.load_tracker(sys.argv[1])\n"
        "image = numpy.zeros((60, 80, 3), numpy.uint8)\n"
        "tracker.init(image, (20, 20, 16, 12))\n"
        "assert len(tracker.update(image)[0]) == 4\n"
        "assert trackers.published.published_recipe('ostrack', 'ostrack_full')['_target_']\n"
        "print(trackers.__file__)"
    )
    said = said_by([programs / "python", "-c", code, small_checkpoint], tmp_path)
    assert said.stderr == ""
    assert Path(said.stdout.strip()).is_relative_to(programs.parent)


def test_the_wheel_runs_a_study_with_its_report(programs, tmp_path):
    settings = [*SMALL_WORLD, *SMALL_NETWORK, *SHORT_STAGES]
    said = said_by([programs / "lwt-train", "-m", "ratio=1,0.5", "seed=1", *settings], tmp_path)
    assert said.returncode == 0, said.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 2
    assert len(list(tmp_path.rglob("report.html"))) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_another_project_is_one_clear_error(programs, tmp_path, package):
    (tmp_path / package).mkdir()
    foreign = tmp_path / package / "__init__.py"
    foreign.write_text('raise AssertionError("a foreign package must not be run")')
    said = said_by([programs / "lwt-train", "--cfg", "job"], programs, paths=str(tmp_path))
    assert said.returncode == 1
    [line] = said.stderr.splitlines()
    assert line.startswith(
        f"error: `import {package}` finds {foreign}, which is not part of the installed light-weight"
    )
    assert "PYTHONPATH" in line


def test_a_module_in_the_working_folder_is_one_clear_error(programs, tmp_path):
    (tmp_path / "trackers.py").write_text("")
    said = said_by([programs / "python", "-m", "light_weight_trackers.eval", "--help"], tmp_path)
    assert said.returncode == 1
    [line] = said.stderr.splitlines()
    assert line.startswith(f"error: `import trackers` finds {tmp_path / 'trackers.py'}")


@pytest.fixture
def overwritten(tmp_path):
    """Returns a folder like site-packages, of which only the first check is ours."""
    (tmp_path / "light_weight_trackers").mkdir()
    shutil.copy(installation.__file__, tmp_path / "light_weight_trackers" / "__init__.py")
    return tmp_path


def test_an_overwritten_package_is_one_clear_error(overwritten):
    """Two distributions with the package `trackers` write into one folder; the last one to be installed wins."""
    (overwritten / "trackers").mkdir()
    (overwritten / "trackers" / "__init__.py").write_text('"""Multi-object trackers."""')
    said = said_by([sys.executable, "-c", "import light_weight_trackers"], overwritten)
    assert said.returncode == 1
    assert f"{overwritten / 'trackers' / '__init__.py'}, which is not part of the installed light-weight" in said.stderr


def test_a_missing_package_is_one_clear_error(overwritten):
    said = said_by([sys.executable, "-S", "-c", "import light_weight_trackers"], overwritten)
    assert said.returncode == 1
    assert "error: `import trackers` finds nothing of light-weight-trackers" in said.stderr
