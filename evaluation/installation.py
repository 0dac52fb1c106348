"""Ends a command of the installed wheel with one message if Python finds packages of another project in place of ours.

`trackers`, `pruning`, `datamodules` and `evaluation` are general names: the public index has another package
`trackers`. In the wheel this file is `light_weight_trackers/__init__.py`, which runs before any of these packages is
imported. In a checkout the packages lie beside the scripts, where Python looks first.
"""

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

NAME = "light-weight-trackers"
PACKAGES = ("trackers", "pruning", "datamodules", "evaluation")
ROOT = Path(__file__).resolve().parents[1]  # site-packages, or the checkout


def stop_at_foreign_packages() -> None:
    """Checks where Python would import the packages from.

    Raises:
        SystemExit: a package lies in another folder, is missing, or was overwritten by another distribution.
    """
    for package in PACKAGES:
        found = _place_of(package)
        if found is None or found.parent != ROOT / package or NAME not in found.read_text(errors="replace"):
            raise SystemExit(f"error: {_explanation(package, found)}")


def _place_of(package: str) -> Path | None:
    """Returns the file `__init__.py` that Python would import, without importing it; None if there is none."""
    spec = find_spec(package)
    return Path(spec.origin).resolve() if spec and spec.origin else None


def _explanation(package: str, found: Path | None) -> str:
    others = [name for name in packages_distributions().get(package, ()) if name != NAME]
    owner = f" It belongs to {' and '.join(others)}." if others else ""
    place = f"{found}, which is not part of the installed {NAME}" if found else f"nothing of {NAME}"
    return (
        f"`import {package}` finds {place}; the right package is {ROOT / package}.{owner} Install {NAME} in an "
        "environment without the other package, and keep the other package out of PYTHONPATH and of the working "
        "folder. In a checkout, run train.py, prune.py and eval.py"
    )


stop_at_foreign_packages()
