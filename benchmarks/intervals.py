"""Simulates how often 95 % intervals cover the truth, for our bootstrap and for other methods.

python benchmarks/intervals.py
python benchmarks/intervals.py --sequences 10 30 --benchmarks 1000 --methods

A population describes the scores of all videos of a kind. Each simulated benchmark draws sequences from it, and each
method makes an interval from the benchmark alone. The truth is the score of two million sequences. Ours is the code of
`evaluation.tracking.metrics.bootstrap`, with a fifth of its draws to save time; `--methods` adds other methods, with
4,000 draws each.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluation.tracking.metrics import bootstrap

DRAWS, TAIL = 4_000, 0.025
Pair = tuple[np.ndarray, np.ndarray]  # scores of a child and of its parent, or a score and ones
Ends = tuple[np.ndarray, np.ndarray]

# Populations


def good(share: np.ndarray) -> np.ndarray:
    """Overlaps of a good tracker, by their rank in (0, 1): one of eight sequences is lost."""
    return np.interp(share, (0, 0.12, 0.2, 0.5, 0.85, 1), (0, 0.2, 0.55, 0.8, 0.9, 0.97))


def weak(share: np.ndarray) -> np.ndarray:
    """Overlaps of a weak tracker, skewed to the right."""
    return np.interp(share, (0, 0.3, 0.6, 0.85, 1), (0, 0.15, 0.32, 0.6, 0.95))


def rates(share: np.ndarray) -> np.ndarray:
    """Success rates at a high threshold: many sequences have 0, and many almost 1."""
    return np.interp(share, (0, 0.3, 0.7, 1), (0, 0, 0.9, 1))


def rare(share: np.ndarray) -> np.ndarray:
    """Success rates of a broken tracker: four of five sequences have 0."""
    return np.interp(share, (0, 0.8, 0.95, 1), (0, 0, 0.4, 1))


def alone(scores: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, n: int) -> Pair:
    """Draws a score."""
    return scores(rng.random(n)), np.ones(n)


def related(child: Callable, correlation: float, rng: np.random.Generator, n: int) -> Pair:
    """Draws the scores of a child and of its parent, whose ranks correlate."""
    normal = rng.standard_normal((3, n))
    ranks = np.sqrt(correlation) * normal[0] + np.sqrt(1 - correlation) * normal[1:]
    uniform = np.searchsorted(np.sort(rng.standard_normal(100_000)), ranks) / 100_000
    return child(uniform[0]), good(uniform[1])


def losing(rng: np.random.Generator, n: int) -> Pair:
    """Draws a child that is as good as its parent, and loses one more sequence of seven."""
    parent = good(rng.random(n))
    lost = rng.random(n) < 1 / 7
    near = np.clip(parent + 0.03 * rng.standard_normal(n), 0, 1)
    return np.where(lost, 0.3 * rng.random(n) * parent, near), parent


def difference(draw: Callable[..., Pair], rng: np.random.Generator, n: int) -> Pair:
    """Draws the difference of a child and its parent."""
    child, parent = draw(rng, n)
    return child - parent, np.ones(n)


NEAR = partial(related, lambda share: 0.97 * good(share), 0.8)
POPULATIONS: dict[str, Callable[[np.random.Generator, int], Pair]] = {
    "score of a good tracker": partial(alone, good),
    "score of a weak tracker": partial(alone, weak),
    "success rate": partial(alone, rates),
    "retention .97": NEAR,
    "difference .02": partial(difference, NEAR),
    "retention .48": partial(related, weak, 0.5),
    "retention .24": partial(related, lambda share: weak(share) ** 2, 0.5),
    "retention, 1 of 7 lost": losing,
    "difference, 1 of 7 lost": partial(difference, losing),
    "success rate, 4 of 5 at 0": partial(alone, rare),
}


def lengths(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draws frames of videos: 113 on average, half of them below 85, like in GOT-10k."""
    return np.clip(rng.lognormal(np.log(85), 0.75, n), 5, 1500).round()


WEIGHTS = {"equal": lambda rng, n: np.ones(n), "frames": lengths}

# Methods. `above` and `below`, (n, m), are what n sequences add to the numerators and denominators of m benchmarks.


def ours(above: np.ndarray, below: np.ndarray) -> Ends:
    """Our intervals. The weights are in both arguments already."""
    found = [bootstrap.retention_interval(a, b, np.ones(len(a))) for a, b in zip(above.T, below.T, strict=True)]
    low, high = np.array([(np.nan, np.nan) if ends is None else ends for ends in found]).T
    return low, high


class Resampled:
    """Other methods, which share their draws."""

    def __init__(self, above: np.ndarray, below: np.ndarray):
        n, m = above.shape
        rng = np.random.default_rng(0)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)
        self.n, self.columns = n, np.arange(m)
        self.value = above.sum(0) / below.sum(0)
        sums = counts @ below
        self.ratios = counts @ above / sums
        self.error = np.sqrt(((above - self.value * below) ** 2).sum(0)) / below.sum(0)
        squares = (
            counts @ above**2 - 2 * self.ratios * (counts @ (above * below)) + self.ratios**2 * (counts @ below**2)
        )
        errors = np.sqrt(np.maximum(squares, 0)) / sums
        shift = self.ratios - self.value
        with np.errstate(divide="ignore", invalid="ignore"):
            self.studentized = np.where(shift == 0, 0, shift / errors)
        self.below_value = ((self.ratios < self.value).mean(0) + (self.ratios <= self.value).mean(0)) / 2
        others = (above.sum(0) - above) / (below.sum(0) - below)
        centred = others.mean(0) - others
        self.acceleration = (centred**3).sum(0) / (6 * (centred**2).sum(0) ** 1.5 + 1e-300)
        self.ratios.sort(0)

    def percentile(self) -> Ends:
        """Plain percentiles."""
        return self._at(TAIL), self._at(1 - TAIL)

    def bca(self) -> Ends:
        """Bias-corrected and accelerated percentiles (Efron, 1987)."""
        normal = NormalDist()
        bias = np.array([normal.inv_cdf(share) for share in np.clip(self.below_value, 1e-6, 1 - 1e-6)])

        def end(tail: float) -> np.ndarray:
            z = bias + normal.inv_cdf(tail)
            return self._at(np.array([normal.cdf(v) for v in bias + z / (1 - self.acceleration * z)]))

        return end(TAIL), end(1 - TAIL)

    def bootstrap_t(self) -> Ends:
        """Studentized intervals, with the errors of a linearised ratio. They are infinite if errors of 0 are common."""
        low, high = np.quantile(self.studentized, (TAIL, 1 - TAIL), axis=0, method="nearest")
        return self.value - high * self.error, self.value - low * self.error

    def _at(self, share: float | np.ndarray) -> np.ndarray:
        rank = np.broadcast_to(np.round(share * (DRAWS - 1)).astype(int), self.columns.shape)
        return self.ratios[rank, self.columns]


def covered(ends: Ends, truth: float) -> float:
    """Returns the share of intervals that hold the truth, in percent. A benchmark without an interval does not count.

    An end may be one rounding error off, e.g. where all sequences score 0.
    """
    low, high = ends
    told = ~np.isnan(low)
    return 100 * float(((low <= truth) & (truth <= high))[told].mean())


def main() -> None:
    """Prints a table for each method: a row for each population, a column for each number of sequences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, nargs="+", default=[2, 3, 5, 10, 16, 30, 60, 180])
    parser.add_argument("--benchmarks", type=int, default=1000, help="simulated benchmarks for each number")
    parser.add_argument("--methods", action="store_true", help="also other methods")
    args = parser.parse_args()
    bootstrap.DRAWN, bootstrap.MOST_DRAWS = 400_000, 20_000
    names = ["ours", *(("percentile", "bca", "bootstrap_t") if args.methods else ())]
    tables = {name: Table("population", "weights", *map(str, args.sequences), title=name) for name in names}
    for population, draw in POPULATIONS.items():
        for weighting, weigh in WEIGHTS.items():
            rng = np.random.default_rng(0)
            above, below = np.array(draw(rng, 2_000_000)) * weigh(rng, 2_000_000)
            truth = above.sum() / below.sum()
            cells = {name: [] for name in names}
            for n in args.sequences:
                rows = n * args.benchmarks
                above, below = (part.reshape(n, -1) for part in np.array(draw(rng, rows)) * weigh(rng, rows))
                others = Resampled(above, below) if args.methods else None
                for name in names:
                    ends = ours(above, below) if name == "ours" else getattr(others, name)()
                    cells[name].append(f"{covered(ends, truth):.1f}")
            for name, table in tables.items():
                table.add_row(population, weighting, *cells[name])
    for table in tables.values():
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
