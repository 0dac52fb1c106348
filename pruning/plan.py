"""A plan says which units of which group stay: plain data, saved with every child."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pruning.groups import Group


@dataclass(frozen=True)
class Plan:
    """Kept units by group name, each list ascending. A group that is not listed keeps everything."""

    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Iterable[int]]) -> "Plan":
        """The plan that `to_dict` wrote."""
        return cls({name: tuple(units) for name, units in kept.items()})

    def to_dict(self) -> dict[str, list[int]]:
        """Plain lists, ready for JSON."""
        return {name: list(units) for name, units in self.kept.items()}

    def units(self, group: Group) -> tuple[int, ...]:
        """The kept units of `group`, all of them if the plan does not mention it."""
        return self.kept.get(group.name, tuple(range(group.size)))

    def check(self, groups: Iterable[Group]) -> None:
        """Raises ValueError unless every entry names a group and holds distinct ascending units of it."""
        sizes = {g.name: g.size for g in groups}
        for name, units in self.kept.items():
            if name not in sizes:
                raise ValueError(f"the plan names the group '{name}'; the network has {sorted(sizes)}")
            if list(units) != sorted(set(units)) or (units and not 0 <= units[0] <= units[-1] < sizes[name]):
                raise ValueError(
                    f"the plan for group '{name}' must list distinct ascending units below {sizes[name]}, not {units}"
                )

    def then(self, later: "Plan") -> "Plan":
        """This plan followed by `later`, which counts units in what this one left: one plan for the first network."""
        both = dict(self.kept)
        for name, units in later.kept.items():
            both[name] = tuple(self.kept[name][u] for u in units) if name in self.kept else units
        return Plan(both)
