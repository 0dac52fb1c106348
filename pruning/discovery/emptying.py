"""What remains of a run when a group loses all its units.

A residual branch without units returns its last bias, so that the network computes `x + constant` in its place. Then
the group may vanish. Operators whose results nothing needs any more are dead.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from pruning.discovery.flow import VIEWS
from pruning.discovery.membership import Membership
from pruning.discovery.recording import Operator, Value


@dataclass(frozen=True)
class Emptied:
    """A group without units that leaves a constant.

    Attributes:
        group: number of the group.
        additions: numbers of the operators that add the constant to the input of the branch.
        dead: numbers of the operators without any effect.
    """

    group: int
    additions: frozenset[int]
    dead: frozenset[int]


class _NotConstantError(Exception):
    """An emptied group does not leave `x + constant`."""


class Emptying:
    """Empties groups of a recorded run, each alone.

    Args:
        membership: tells where the units of groups are.
    """

    def __init__(self, membership: Membership):
        self.membership = membership
        recording = membership.flow.recording
        self.operators = recording.operators
        self._memory = self._shared_memory()
        self._origin: dict[Value, Value] = {}  # for a view or a copy the tensor that it shows
        self._readers: dict[Value, list[int]] = defaultdict(list)
        self._writers: dict[Value, list[int]] = defaultdict(list)
        self._varying: set[Value] = set()  # what depends on the inputs of the network
        for number, operator in enumerate(self.operators):
            for value in operator.values:
                memory = self._key(value)
                if memory not in self._writers and value not in membership.flow.views:
                    self._varying.add(memory)
                self._readers[memory].append(number)
            varies = any(self._varies(v) for v in operator.values)
            for value in operator.results:
                self._writers[self._key(value)].append(number)
                if varies:
                    self._varying.add(self._key(value))
            if operator.name in VIEWS:
                source = operator.values[0]
                self._origin |= {v: self._origin.get(source, source) for v in operator.results if v is not source}
        self._outputs = set(map(self._key, recording.outputs))

    def _shared_memory(self) -> dict[Value, Value]:
        """Returns for each view the tensor of which it is a view, if some operator writes into one of them."""
        base: dict[Value, Value] = {}
        written: set[Value] = set()
        for operator in self.operators:
            if not (arguments := operator.function._schema.arguments):
                continue
            first, alias = operator.arguments.get(arguments[0].name), arguments[0].alias_info
            if alias is None or not isinstance(first, Value):
                continue
            memory = base.get(first, first)
            if alias.is_write:
                written.add(memory)
            else:
                base |= {v: memory for v in operator.results if v is not memory}
        return {view: memory for view, memory in base.items() if memory in written}

    def _key(self, value: Value) -> Value:
        return self._memory.get(value, value)

    def _varies(self, value: Value) -> bool:
        return self._key(value) in self._varying

    def empty(self, group: int) -> Emptied | None:
        """Returns what remains without the units of a group; None unless it is `x + constant` for each branch input x.

        Args:
            group: number of the group.
        """
        numbers = self.membership.operator_numbers(group)
        try:
            dead = self._dead(group, numbers)
            additions = self._additions(group, numbers, self._branch_inputs(group, dead))
        except _NotConstantError:
            return None
        return Emptied(group, frozenset(additions), frozenset(dead)) if additions else None

    def is_empty(self, value: Value, group: int) -> bool:
        """Returns whether a tensor has no entries without the units of a group.

        Raises:
            _NotConstantError: a part of a dimension is left.
        """
        for dim, groups in enumerate(self.membership.groups_in(value)):
            if group in groups:
                if not self.membership.has_no_others(value, dim):
                    raise _NotConstantError
                return True
        return False

    def begins(self, operator: Operator, group: int) -> bool:
        """Returns whether an operator makes a tensor without entries of tensors with entries."""
        views = self.membership.flow.views
        return (
            not views.keys() & {*operator.results}
            and any(self.is_empty(v, group) for v in operator.results)
            and not any(self.is_empty(v, group) for v in operator.values if v not in views)
        )

    def _dead(self, group: int, numbers: list[int]) -> set[int]:
        """Returns the operators whose results have no entries, and those whose results only these read."""
        dead = {n for n in numbers if self._writes_nothing(self.operators[n], group)}
        pending = list(dead)
        while pending:
            for value in self.operators[pending.pop()].values:
                for number in self._writers.get(self._key(value), ()):
                    if number not in dead and self._is_unread(number, dead):
                        dead.add(number)
                        pending.append(number)
        return dead

    def _writes_nothing(self, operator: Operator, group: int) -> bool:
        """Returns whether all results of an operator that others read have no entries."""
        read = [v for v in operator.results if self._readers.get(self._key(v)) or self._key(v) in self._outputs]
        return bool(read) and all(self.is_empty(v, group) for v in read)

    def _is_unread(self, number: int, dead: set[int]) -> bool:
        """Returns whether only dead operators, or an operator itself, read its results."""
        keys = {self._key(v) for v in self.operators[number].results}
        return not keys & self._outputs and all(r in dead or r == number for key in keys for r in self._readers[key])

    def _branch_inputs(self, group: int, dead: set[int]) -> set[Value]:
        """Returns the tensors that enter dead operators."""
        return {
            self._origin.get(value, value)
            for number in dead
            for value in self.operators[number].values
            if not {*self._writers.get(self._key(value), ())} & dead
        }

    def _additions(self, group: int, numbers: list[int], inputs: set[Value]) -> set[int]:
        """Follows the constants behind the group, and returns the operators that add them to an input of the branch.

        Raises:
            _NotConstantError: a constant goes elsewhere.
        """
        constants: set[Value] = set()
        unknown: set[Value] = set()  # e.g. a mean of nothing
        additions: set[int] = set()
        pending = list(numbers)
        heapify(pending)
        last = -1
        while pending:
            if (number := heappop(pending)) == last:
                continue
            last, operator = number, self.operators[number]
            if self._writes_nothing(operator, group):
                continue
            keys = set(map(self._key, operator.values))
            if not keys & (constants | unknown) and not any(self.is_empty(v, group) for v in operator.values):
                continue
            results = [self._key(v) for v in operator.results]
            empty = [v for v in operator.values if self.is_empty(v, group)]
            others = [v for v in operator.values if v not in empty and self._key(v) not in constants | unknown]
            if keys & unknown or (empty and not self._sums(operator, group)):
                unknown.update(results)
            elif operator.name == "add" and not empty and self._show(others) & inputs:
                additions.add(number)
                constants.difference_update(results)
                continue
            elif any(map(self._varies, others)):
                raise _NotConstantError
            else:
                constants.update(results)
            if {*results} & self._outputs:
                raise _NotConstantError
            for reader in self._later(results, number):
                heappush(pending, reader)
        return additions

    def _show(self, values: list[Value]) -> set[Value]:
        """Returns the tensors that views and copies show."""
        return {self._origin.get(value, value) for value in values}

    def _later(self, keys: list[Value], number: int) -> Iterator[int]:
        return (reader for key in keys for reader in self._readers[key] if reader > number)

    def _sums(self, operator: Operator, group: int) -> bool:
        """Returns whether an operator sums over the units, so that nothing is left but a bias."""
        if self.membership.summed_dims(operator, group):
            return True
        return operator.name == "sum"
