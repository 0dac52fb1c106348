"""Finds the reference cases.

The folder is `$GOLDEN_DIR`, or `shared/golden` beside the repository. A case is a JSON file, with the reference's
outputs in an `.npz` of the same name. What is run is decided by what the JSON says, never by how the file is called.
"""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parents[2].parent / "shared" / "golden")
# The end of a kind that names the network and not the computation: "features_dimp18", "forward_st101", "slim_mini".
NETWORK = re.compile(r"_((super_?|pr)?dimp|mini|[a-z]{0,9}\d+)$")


@dataclass(frozen=True)
class Case:
    """One reference case: what its JSON says, and the arrays the reference computed for it."""

    path: Path
    about: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Case":
        """Returns the case of a JSON file; its words "nan", "inf" and "-inf" are numbers."""

        def revive(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: revive(v) for k, v in value.items()}
            if isinstance(value, list):
                return [revive(v) for v in value]
            return float(value) if value in ("nan", "inf", "-inf") else value

        return cls(path, revive(json.loads(path.read_text())))

    @property
    def kind(self) -> str:
        """What was computed: the JSON's `kind`, or else its `case`, without the name of a network at its end."""
        return NETWORK.sub("", self.about.get("kind") or self.about.get("case") or "none")

    @property
    def config(self) -> dict[str, Any]:
        """The reference's options."""
        return self.about["config"]

    @cached_property
    def stored(self) -> dict[str, np.ndarray]:
        """The reference's outputs by name."""
        with np.load(self.path.with_suffix(".npz")) as file:
            return {name: file[name] for name in file.files}

    def under(self, prefix: str) -> set[str]:
        """Names of stored arrays below `prefix`, without it; those of the top level for the empty one."""
        names = {n.removeprefix(prefix) for n in self.stored if n.startswith(prefix)}
        return {n for n in names if "/" not in n}

    def agrees(self, mine: dict[str, Any], prefix: str = "", unchecked: Iterable[str] = ()) -> None:
        """Fails unless `mine` holds every array stored below `prefix`, but for `unchecked`, within its tolerance."""
        missed = set(mine) ^ (self.under(prefix) - set(unchecked))
        assert not missed, f"{prefix}: computed here or stored by the reference, but not both: {sorted(missed)}"
        for name, value in mine.items():
            self.agrees_on(prefix + name, value)

    def agrees_on(self, name: str, mine: Any, part: Any = ...) -> None:
        """Fails unless `mine` is the stored array `name`, or the given part of it, within its tolerance."""
        wanted, mine = self.stored[name][part], np.asarray(mine)
        assert mine.shape == wanted.shape, f"{name}: shape {mine.shape}, reference {wanted.shape}"
        given = self.about["tolerances"]
        limit = given[name] if name in given else given[f"*/{name.rpartition('/')[2]}"]
        exact = wanted.dtype.kind in "iub"
        difference = np.abs(mine.astype(np.float64) - wanted.astype(np.float64))
        allowed = 0 if exact else limit["atol"] + limit["rtol"] * np.abs(wanted.astype(np.float64))
        report(f"{self.path.stem}:{name}", difference, allowed)
        worst = float((difference - allowed).max())
        assert worst <= 0, f"{name}: off by up to {difference.max():.3g}, {worst:.3g} more than the reference allows"


def report(name: str, difference: np.ndarray, allowed: Any) -> None:
    """Prints how much of the tolerance is used; pytest shows it with -rP, and for tests that fail."""
    share = difference / np.maximum(allowed, 1e-300)
    print(f"{name}: largest difference {difference.max():.2e}, {share.max():.2g} of the tolerance")


@lru_cache
def cases(family: str) -> tuple[Case, ...]:
    """Returns all cases of "ostrack", "metrics", ..., sorted by path."""
    return tuple(Case.read(path) for path in sorted((FOLDER / family).rglob("*.json")))


def each(
    family: str, *kinds: str, by: Callable[[Case], Iterable[tuple[str, Any]]] | None = None
) -> pytest.MarkDecorator:
    """Runs a test on each `case` of these kinds, all kinds if none is named.

    Without the folder the test is skipped. A test without a case in the folder is deselected: see `conftest.py`.

    Args:
        family: folder of the cases.
        kinds: kinds of cases.
        by: names and values of the parts of a case that the test runs on one by one, as its argument `part`.
    """
    names = "case" if by is None else "case,part"
    if not FOLDER.is_dir():
        reason = pytest.mark.skip(reason=f"no reference vectors at {FOLDER}: set GOLDEN_DIR to their folder")
        return pytest.mark.parametrize(names, [pytest.param(*[None] * (1 + (by is not None)), marks=reason)])
    params = []
    for case in cases(family):
        if kinds and case.kind not in kinds:
            continue
        at = case.path.relative_to(FOLDER / family).with_suffix("").as_posix()
        parts = [pytest.param(case, id=at)]
        if by is not None:
            parts = [pytest.param(case, part, id=f"{at}:{name}") for name, part in by(case)]
        params += parts
    params = params or [pytest.param(*[None] * (1 + (by is not None)), marks=pytest.mark.no_case, id="no case")]
    return pytest.mark.parametrize(names, params)


def check_kind(case: Case, known: Iterable[str]) -> None:
    """Fails on a kind of case that no test knows."""
    known = sorted(known)
    assert case.kind in known, f"{case.path} is of the kind '{case.kind}', which no test runs; known are {known}"


@lru_cache
def load(name: str) -> ModuleType:
    """A module that lies with the vectors: the fill rule ("rule") or the inputs of metrics ("metrics/inputs")."""
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"golden_{name.replace('/', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before  # "metrics/inputs" puts its folder there to find the rule
    return module
