"""Units: positions of tensor dimensions that can only be removed together, as a union of sets."""

import numpy as np

FIXED = -1  # label of a position that no unit owns


class Units:
    """Sets of positions. Every position of a prunable dimension has a label; united labels belong to one unit.

    A frozen unit cannot be removed; `reasons` says which operator forbids it, "" for positions that nobody would
    remove, such as those of a kernel.
    """

    def __init__(self) -> None:
        self._parent = np.arange(1024)
        self._count = 0
        self.reasons: dict[int, str] = {}

    @property
    def count(self) -> int:
        """Number of labels so far."""
        return self._count

    def fresh(self, count: int) -> np.ndarray:
        """Returns new labels (count,), each a unit of its own."""
        while self._count + count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.arange(len(self._parent), 2 * len(self._parent))])
        labels = np.arange(self._count, self._count + count)
        self._count += count
        return labels

    def find(self, labels: np.ndarray) -> np.ndarray:
        """Returns the unit of every label, FIXED for FIXED."""
        known = labels >= 0
        units, above = labels.copy(), self._parent[labels[known]]
        while True:
            higher = self._parent[above]
            if (higher == above).all():
                break
            above = higher
        self._parent[labels[known]] = above
        units[known] = above
        return units

    def unite(self, first: np.ndarray, second: np.ndarray, reason: str) -> None:
        """Unites labels pairwise. A label that meets a FIXED position is frozen, for `reason`."""
        a, b = self.find(first), self.find(second)
        self.freeze(np.concatenate([a[b == FIXED], b[a == FIXED]]), reason)
        different = (a != b) & (a >= 0) & (b >= 0)
        for x, y in zip(a[different].tolist(), b[different].tolist(), strict=True):
            x, y = self._root(x), self._root(y)
            if x == y:
                continue
            x, y = min(x, y), max(x, y)
            self._parent[y] = x
            if y in self.reasons:
                self.reasons[x] = self.reasons.get(x) or self.reasons.pop(y)

    def freeze(self, labels: np.ndarray | None, reason: str) -> None:
        """Freezes the units of labels; the first reason stays."""
        if labels is None or not len(labels):
            return
        for unit in np.unique(self.find(labels)).tolist():
            if unit != FIXED:
                self.reasons.setdefault(unit, reason)

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = int(self._parent[label])
        return label
