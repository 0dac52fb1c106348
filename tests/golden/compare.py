"""Compares arrays with a reference case that gives tolerances by name or pattern, as those of STARK and DiMP do."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from .cases import Case, report


def agrees(case: Case, mine: Mapping[str, Any], *patterns: str) -> None:
    """Fails unless `mine` holds every stored array like a pattern, or every one, within its tolerance."""
    asked = {name for name in case.stored if not patterns or fits(name, patterns)}
    missed = sorted(set(mine) ^ asked)
    assert asked, f"the reference stores nothing like {patterns}"
    assert not missed, f"computed here or stored by the reference, but not both: {missed}"
    for name, value in mine.items():
        wanted, value = case.stored[name], np.asarray(value)
        assert value.shape == wanted.shape, f"{name}: shape {value.shape}, reference {wanted.shape}"
        difference = np.abs(value.astype(np.float64) - wanted.astype(np.float64))
        allowed = _allowed(_tolerance(case, name), wanted)
        report(f"{case.path.stem}:{name}", difference, allowed)
        over = difference - allowed
        assert np.all(over <= 0), f"{name}: off by up to {difference.max():.3g}, {over.max():.3g} more than allowed"


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name is like one of the patterns, e.g. "kept_*"."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tolerance(case: Case, name: str) -> dict[str, Any] | str:
    """Keys are names, patterns, or lists of them."""
    given = case.about["tolerance"]
    return given[name] if name in given else next(v for key, v in given.items() if fits(name, key.split(", ")))


def _allowed(limit: dict[str, Any] | str, wanted: np.ndarray) -> np.ndarray:
    if isinstance(limit, str):  # crops come from cv2.resize here, so no other words than "exact" matter
        assert limit.startswith("exact"), f"the tolerance '{limit}' is not known"
        return np.zeros(wanted.shape)
    return limit["atol"] + np.asarray(limit["rtol"]) * np.abs(wanted.astype(np.float64))
