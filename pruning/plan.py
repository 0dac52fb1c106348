"""Plans: the kept units of every group, as plain data that is saved with every cut network."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pruning.errors import PruningError
from pruning.groups import Group


@dataclass(frozen=True)
class Plan:
    """Kept units by group name, in ascending order. A group that is not listed keeps all its units."""

    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Iterable[int]]) -> "Plan":
        """Returns a plan from the result of `to_dict`.

        Raises:
            PruningError: an entry is no list of whole numbers from 0.
        """
        if not isinstance(kept, Mapping):
            raise PruningError(
                f"a plan must hold kept units by group name, not {reprlib.repr(kept)}; e.g. {{'g': [0, 2]}}"
            )
        for name, units in kept.items():
            if not isinstance(units, list | tuple) or not all(type(u) is int and u >= 0 for u in units):
                raise PruningError(
                    f"the plan for group {reprlib.repr(name)} must list whole numbers from 0, not "
                    f"{reprlib.repr(units)}; e.g. [0, 2, 5]"
                )
        return cls({name: tuple(units) for name, units in kept.items()})

    def to_dict(self) -> dict[str, list[int]]:
        """Returns the kept units as plain lists for JSON."""
        return {name: list(units) for name, units in self.kept.items()}

    def units(self, group: Group) -> tuple[int, ...]:
        """Returns the kept units of `group`: all units if the plan does not list the group."""
        return self.kept.get(group.name, tuple(range(group.size)))

    def check(self, groups: Iterable[Group]) -> None:
        """Raises PruningError unless every entry names one of `groups` and lists distinct ascending units of it."""
        sizes = {g.name: g.size for g in groups}
        for name, units in self.kept.items():
            if name not in sizes:
                raise PruningError(
                    f"the plan lists the group '{name:.100}', but the network has the groups {sorted(sizes)}"
                )
            if list(units) != sorted(set(units)) or (units and not 0 <= units[0] <= units[-1] < sizes[name]):
                raise PruningError(
                    f"the plan for group '{name}' must list distinct ascending units below {sizes[name]}, not "
                    f"{reprlib.repr(list(units))}"
                )

    def followed_by(self, later: "Plan") -> "Plan":
        """Returns one plan for the uncut network that has the effect of this plan followed by `later`.

        Args:
            later: plan for the network after the cut to this plan. Its units are indices into the units kept here.
        """
        combined = dict(self.kept)
        for name, units in later.kept.items():
            combined[name] = tuple(self.kept[name][u] for u in units) if name in self.kept else units
        return Plan(combined)
