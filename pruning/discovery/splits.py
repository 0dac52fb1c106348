"""Choice of the dimension that has the units after a reshape has split channels, e.g. into heads and their dims."""

from collections import defaultdict

from pruning.discovery.attentions import Attention, find_attentions
from pruning.discovery.flow import Flow
from pruning.discovery.recording import Recording
from pruning.discovery.rules import RULES
from pruning.discovery.units import FIXED

ROUNDS = 6  # of choices
MIN_HEADS = 4  # below it, whole heads would leave a choice between very few widths


class UnitDims:
    """Chooses the units behind the reshapes of a run that split channels.

    In an attention, a unit is either a whole head, or the same dim of all heads. A dimension of a tensor cannot have
    both, so each attention has one of them: whole heads if it has at least `MIN_HEADS`, else dims. If they cannot be
    cut, it gets the other; if neither can, it keeps dims, of which queries and keys may be left whole while values are
    cut. Elsewhere the new dimension with most units has the units, or another if these cannot be removed.

    Args:
        recording: the run.

    Attributes:
        flow: the flow of units with the present choice.
    """

    def __init__(self, recording: Recording):
        self._recording = recording
        self._attentions = find_attentions(recording)
        self._kinds = [_kinds(attention) for attention in self._attentions]  # the present one, and those to try
        self.flow = self._chosen_flow()

    def reject(self, units: set[int]) -> bool:
        """Makes other choices for units of `flow` that cannot be cut.

        Returns:
            Whether there was a choice left. `flow` is another one then.
        """
        changed = [self._rejected(i, units) for i in range(len(self._attentions))]
        if any(changed):
            self.flow = self._chosen_flow()
        return any(changed)

    def _rejected(self, i: int, units: set[int]) -> bool:
        """Takes the next kind of units for an attention of which some units cannot be cut, if there is one."""
        attention, kinds = self._attentions[i], self._kinds[i]
        splits = (attention.heads | attention.dims).keys() & self.flow.splits.keys()
        if len(kinds) < 2 or not any(units & _units(self.flow, number) for number in splits):
            return False
        kinds.pop(0)
        return True

    def _chosen_flow(self) -> Flow:
        """Returns the flow whose choices leave as few units frozen as can be."""
        others: dict[int, int] = {}
        tried: dict[int, list[int]] = defaultdict(list)
        for _ in range(ROUNDS):
            in_attentions = {number: dim for kinds in self._kinds for number, dim in kinds[0].items()}
            self.flow = Flow(self._recording, RULES, others | in_attentions)
            frozen = set(self.flow.units.reasons)
            changed = [self._rejected(i, frozen) for i in range(len(self._attentions))]
            for number, split in self.flow.splits.items():
                if number in in_attentions or len(split.options) < 2 or not frozen & _units(self.flow, number):
                    continue
                tried[number].append(split.chosen)
                # If no option fits, the one with most units is taken after all.
                option = next((o for o in split.options if o not in tried[number]), split.options[0])
                changed.append(option != split.chosen)
                others[number] = option
            if not any(changed):
                break
        return self.flow


def _kinds(attention: Attention) -> list[dict[int, int]]:
    """Returns the dimensions that have the units, for the kind to take first and for those to try after it."""
    heads, dims = attention.heads, attention.dims
    if not heads or not dims:
        return [heads or dims]
    return [heads, dims] if attention.count >= MIN_HEADS else [dims, heads, dims]


def _units(flow: Flow, number: int) -> set[int]:
    """Returns the units of a split."""
    return set(flow.units.find(flow.splits[number].labels).tolist()) - {FIXED}
