"""The makers of the stages of a study: commits, versions and machines, and warnings if these differ.

A stage may come from the cache. Other code on another machine may have made it long ago.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evaluation.report.study_results import Result, value_at

NAMED = 4  # commits and machines that a warning names; the table of makers has all


def makers_of(result: Result) -> Iterator[tuple[str, Result]]:
    """Yields the role and the maker of each stage of a job, and the maker of the result itself as "result".

    A maker has "commit", "versions" and "machine", as `evaluation.study.provenance` returns them. Any may be missing.
    """
    yield from (value_at(result, "stages") or {}).items()
    yield "result", result


def describe_differences(makers: Iterable[Result]) -> list[str]:
    """Returns in words how makers differ in commit, version of torch or processor; [] if they do not."""
    found: dict[str, list[str]] = {"commits": [], "versions of torch": [], "processors": []}
    for maker in makers:
        for values, value in zip(found.values(), _identity(maker), strict=True):
            if value is not None and value not in values:
                values.append(value)
    return [f"{len(values)} {name} ({_listed(values)})" for name, values in found.items() if len(values) > 1]


def maker_warnings(results: Sequence[Result]) -> list[str]:
    """Returns a sentence if the stages of the jobs and their results have different makers."""
    differences = describe_differences(maker for result in results for _, maker in makers_of(result))
    made = "Stages and results were made by "
    return [f"{made}{', '.join(differences)}. Numbers may differ for this reason alone."] if differences else []


def count_makers(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns each maker of each stage ("stage", "commit", "torch", "processor") with the number of "jobs" it is in."""
    counts = Counter((role, *_identity(maker)) for result in results for role, maker in makers_of(result))
    names = ("stage", "commit", "torch", "processor")
    return [dict(zip(names, maker, strict=True)) | {"jobs": jobs} for maker, jobs in counts.items()]


def _listed(values: Sequence[str]) -> str:
    more = [f"{len(values) - NAMED} more"] if len(values) > NAMED else []
    return "; ".join([*values[:NAMED], *more])


def _identity(maker: Result) -> tuple[str | None, ...]:
    """Returns the commit, the version of torch and the name of the GPU, or of the CPU without one."""
    processor = value_at(maker, "machine", "gpu") or value_at(maker, "machine", "cpu")
    return maker.get("commit"), value_at(maker, "versions", "torch"), processor
