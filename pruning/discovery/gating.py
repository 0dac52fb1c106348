"""Choice of the weights that carry the gates of a group, such that closed gates equal removed units."""

from collections.abc import Collection, Mapping, Sequence

from pruning.discovery.closing import ClosedUnits, UngateableError
from pruning.discovery.flow import TensorDim
from pruning.discovery.membership import Membership


class GateChooser:
    """Chooses which weights carry the gates of groups.

    Args:
        membership: tells where the units of groups are.
    """

    def __init__(self, membership: Membership):
        self.membership = membership
        tensors = membership.flow.recording.tensors
        self._vectors = {name for name, value in tensors.items() if len(value.shape) == 1}
        self._zero_functions: dict[tuple, bool] = {}

    def choose(self, group: int, places: Mapping[TensorDim, int], buffers: Sequence[TensorDim] = ()) -> list[TensorDim]:
        """Returns the weights that carry the gates of a group.

        Either the weights that produce the units or those that read them, whichever has fewer entries. If both have a
        gate, its gradient would vanish with the gate.

        Args:
            group: number of the group.
            places: parameters with units of the group, with their number of entries.
            buffers: buffers with units of the group, which can be masked, e.g. a bias of keys that is always zero. They
                are among the result if they make units together with the parameters.

        Raises:
            UngateableError: neither the producers nor the readers can close the units.
        """
        operators = self.membership.operators(group)
        reads = [self.membership.read_weights(operator, group) for operator in operators]
        read = {place for found in reads for place in found} & places.keys()
        producers = [p for p in places if p not in read]
        readers = sorted(read)
        problem, problem_of_readers = self._problem(group, producers), self._problem(group, readers)
        if problem and producers and buffers and not self._problem(group, [*producers, *buffers]):
            producers, problem = [*producers, *buffers], ""
        if not problem:
            # in the order of use: what a later norm overwrites needs no gate
            producers = self._needed(group, producers)
        if not problem_of_readers and any(len(found) > 1 for found in reads):
            readers = self._needed(group, readers)  # one of two weights that are multiplied with each other
        options = [o for o, p in ((producers, problem), (readers, problem_of_readers)) if o and not p]
        if not options:
            causes = (problem_of_readers, problem) if read and not problem else (problem, problem_of_readers)
            raise UngateableError(next(filter(None, causes), "no weight makes or reads them"))
        if not problem and producers and all(name in self._vectors for name, _ in producers):
            return producers  # the scales of norms
        if len(options) == 1:
            return options[0]
        return min(
            options, key=lambda o: (self._acts_twice(group, o), sum(places.get(p, 0) for p in o), o is producers)
        )

    def _needed(self, group: int, gated: list[TensorDim]) -> list[TensorDim]:
        """Returns the weights without those whose gates the others make superfluous."""
        for place in list(gated):
            fewer = [p for p in gated if p != place]
            if fewer and not self._problem(group, fewer):
                gated = fewer
        return gated

    def _acts_twice(self, group: int, gated: Collection[TensorDim]) -> bool:
        """Returns whether gates on `gated` scale a unit twice in a row, e.g. in a convolution and a norm behind it."""
        closed = ClosedUnits(self.membership, group, gated, self._zero_functions)
        for operator in self.membership.operators(group):
            closed.follow(operator)
        return closed.gated_twice

    def _problem(self, group: int, gated: Collection[TensorDim]) -> str:
        """Returns the operator which shows that gates on `gated` do not close the units, "" if they do."""
        closed = ClosedUnits(self.membership, group, gated, self._zero_functions)
        try:
            for operator in self.membership.operators(group):
                closed.follow(operator)
        except UngateableError as error:
            return str(error)
        return ""
