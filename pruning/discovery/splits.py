"""Choice of the dimension that has the units after a reshape has split channels, e.g. into heads and their dims."""

from collections import defaultdict

from pruning.discovery.flow import Flow
from pruning.discovery.recording import Recording
from pruning.discovery.rules import RULES
from pruning.discovery.units import FIXED

ROUNDS = 4  # of choices


def choose_unit_dims(recording: Recording) -> Flow:
    """Returns the flow in which reshapes that split channels into heads make a whole head a unit.

    By default the new dimension with most units has the units. If these are summed over in the product of two
    activations (the dims of queries and keys), or cannot be removed, another dimension is tried.

    Args:
        recording: the run.
    """
    choices: dict[int, int] = {}
    tried: dict[int, list[int]] = defaultdict(list)
    flow = Flow(recording, RULES)
    for _ in range(ROUNDS):
        summed = {u for _, labels in flow.products for u in flow.units.find(labels).tolist()}
        changed = False
        for number, split in flow.splits.items():
            if len(split.options) < 2:
                continue
            units = set(flow.units.find(split.labels).tolist()) - {FIXED}
            if units & summed or units & flow.units.reasons.keys():
                tried[number].append(split.chosen)
                # If no option fits, the one with most units is taken after all.
                option = next((o for o in split.options if o not in tried[number]), split.options[0])
                changed |= choices.get(number) != option
                choices[number] = option
        if not changed:
            break
        flow = Flow(recording, RULES, choices)
    for operator, labels in flow.products:
        if operator.width_scales:
            flow.units.freeze(labels, f"{operator}: the scale of the attention depends on the width of its heads")
    return flow
