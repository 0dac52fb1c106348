"""Groups that may lose all their units: they get `Group.vanish` and `Group.branch`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat

from torch import nn

from pruning.discovery.emptying import Emptied, Emptying
from pruning.discovery.recording import Value, writes_in_place
from pruning.groups import Group


def with_branches(
    network: nn.Module, emptying: Emptying, numbers: Mapping[str, int], groups: Sequence[Group]
) -> list[Group]:
    """Returns the groups; those that may vanish say so, with the modules that then have no effect.

    Groups that add to the same place share a branch, which has the name of the first of them.

    Args:
        network: the network of the run.
        emptying: empties groups of the run.
        numbers: number of each group in the run, by name.
        groups: the groups.
    """
    found = {g.name: emptied for g in groups if (emptied := emptying.empty(numbers[g.name])) is not None}
    members: dict[frozenset[int], list[str]] = {}
    for name, emptied in found.items():
        members.setdefault(emptied.additions, []).append(name)
    effects = ModuleEffects(network, emptying)
    taken: set[str] = set()
    result = []
    for group in groups:
        if (emptied := found.get(group.name)) is None:
            result.append(group)
            continue
        vanish = effects.without_effect(emptied, taken)
        if effects.overwrite_inputs(emptied, vanish):
            result.append(group)
            continue
        taken.update(vanish)
        together = members[emptied.additions]
        result.append(replace(group, vanish=vanish, branch=together[0] if len(together) > 1 else None))
    return result


class ModuleEffects:
    """Tells which modules of a network have no effect without the units of a group.

    Args:
        network: the network.
        emptying: empties groups of a run of the network.
    """

    def __init__(self, network: nn.Module, emptying: Emptying):
        self.network, self.emptying = network, emptying
        self._numbers: dict[str, list[int]] = {}  # of the operators inside of each module
        self._readers: dict[Value, list[int]] = {}
        for number, operator in enumerate(emptying.operators):
            if not operator.values:
                continue  # a new tensor has no effect by itself
            parts = operator.module.split(".") if operator.module else []
            for end in range(1, len(parts) + 1):
                self._numbers.setdefault(".".join(parts[:end]), []).append(number)
            for value in operator.values:
                self._readers.setdefault(value, []).append(number)

    def without_effect(self, emptied: Emptied, taken: Collection[str]) -> tuple[str, ...]:
        """Returns the paths of the largest modules with tensors that `nn.Identity` can replace.

        Args:
            emptied: the group without units.
            taken: modules that another group lists.
        """
        return tuple(self._descend(self.network, "", emptied, taken))

    def overwrite_inputs(self, emptied: Emptied, vanish: Collection[str]) -> bool:
        """Returns whether functions would overwrite the input of the branch once its convolutions have vanished.

        Surgery changes modules with the attribute `inplace`, but not calls such as `F.relu_`.
        """
        dead = [self.emptying.operators[n] for n in emptied.dead]
        if not any(o.name == "convolution" and self.emptying.begins(o, emptied.group) for o in dead):
            return False
        left = [o for o in dead if not any(f"{o.module}.".startswith(f"{path}.") for path in vanish)]
        return any(
            writes_in_place(o) and getattr(self.network.get_submodule(o.module), "inplace", None) is not True
            for o in left
        )

    def _descend(self, module: nn.Module, path: str, emptied: Emptied, taken: Collection[str]) -> Iterator[str]:
        for name, child in module.named_children():
            inner = f"{path}.{name}".lstrip(".")
            numbers = self._numbers.get(inner, [])
            if inner in taken or emptied.dead.isdisjoint(numbers) or not _has_tensors(child):
                continue
            overlaps = any(other.startswith(f"{inner}.") for other in taken)
            if not overlaps and emptied.dead.issuperset(numbers) and self._is_replaceable(numbers, emptied.group):
                yield inner
            else:
                yield from self._descend(child, inner, emptied, taken)

    def _is_replaceable(self, numbers: Collection[int], group: int) -> bool:
        """Returns whether `nn.Identity` can stand for dead operators.

        Each call of the module needs one input and one output, of equal shape. A convolution cannot lose all its
        outputs. `nn.Identity` gives the channels of its input in their place, which no reader but a convolution
        accepts; a trial shows that.
        """
        operators, inside = [self.emptying.operators[n] for n in numbers], {*numbers}
        written = dict.fromkeys(v for o in operators for v in o.results)
        inputs = dict.fromkeys(v for o in operators for v in o.values if not v.name and v not in written)
        outputs = [v for v in written if not inside.issuperset(self._readers.get(v, ()))]
        if not outputs or len(inputs) != len(outputs):
            return False
        only_convolutions = all(o.name == "convolution" for o in operators if self.emptying.begins(o, group))
        return all(map(self._fits, inputs, outputs, repeat(group), repeat(only_convolutions)))

    def _fits(self, entering: Value, leaving: Value, group: int, only_convolutions: bool) -> bool:
        """Returns whether a tensor can stand for another one."""
        if self.emptying.is_empty(entering, group) == self.emptying.is_empty(leaving, group):
            return entering.shape == leaving.shape
        differences = [a != b for a, b in zip(entering.shape, leaving.shape, strict=False)]
        return only_convolutions and len(entering.shape) == len(leaving.shape) and sum(differences) <= 1


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in chain(module.parameters(), module.buffers()))
