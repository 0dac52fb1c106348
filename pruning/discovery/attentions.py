"""Attentions of a recorded run: which reshapes split channels into heads and dims, and which belong together."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from pruning.discovery.flow import Flow
from pruning.discovery.recording import Recording
from pruning.discovery.rules import RULES
from pruning.discovery.rules.products import product
from pruning.discovery.units import FIXED


@dataclass(eq=False)
class Attention:
    """Reshapes that split channels into heads and dims for one attention: those of queries, keys and values.

    Attributes:
        heads: by number of the reshape in the recording, which of its new dimensions counts the heads.
        dims: the same for the dims of a head.
        count: number of heads that can be removed one by one. Queries that share a key and a value are one.
    """

    heads: dict[int, int] = field(default_factory=dict)
    dims: dict[int, int] = field(default_factory=dict)
    count: int = 0


def find_attentions(recording: Recording) -> list[Attention]:
    """Returns the attentions of a run.

    Of a product of two activations, the batch has heads, and rows, columns and sums have dims. The flow runs once for
    each of the new dimensions that may have the units, to see in which part of a product they arrive.

    Args:
        recording: the run.
    """
    flow = Flow(recording, RULES)
    options = {number: split.options for number, split in flow.splits.items() if len(split.options) > 1}
    met = _splits_in_products(flow, options)
    in_products = {number for parts in met.values() for numbers in parts for number in numbers}
    parts: dict[int, Attention] = defaultdict(Attention)
    for turn in range(max((len(options[number]) for number in in_products), default=0)):
        if turn:
            chosen = {n: options[n][turn] for n in in_products if turn < len(options[n])}
            flow = Flow(recording, RULES, chosen)
        for at, (heads, dims) in _splits_in_products(flow, in_products).items():
            met[at][0].update(heads)
            met[at][1].update(dims)
            for number in heads:
                parts[number].heads[number] = flow.splits[number].chosen
            for number in dims:
                parts[number].dims[number] = flow.splits[number].chosen
    attentions = _joined(parts, [heads | dims for heads, dims in met.values()])
    if attentions:
        flow = Flow(recording, RULES, {n: dim for attention in attentions for n, dim in attention.heads.items()})
    for attention in attentions:
        labels = [flow.units.find(flow.splits[n].labels) for n in attention.heads if n in flow.splits]
        attention.count = min((len(set(units.tolist()) - {FIXED}) for units in labels), default=0)
    return attentions


def _splits_in_products(flow: Flow, of: Collection[int]) -> dict[int, tuple[set[int], set[int]]]:
    """Returns by number of a product of two activations the splits whose units lie in its batch, and in its matrices.

    Args:
        flow: the flow.
        of: numbers of the splits to look for.
    """
    split_of_label = np.full(flow.units.count + 1, FIXED)
    found = {}
    for at, operator in enumerate(flow.recording.operators):
        if at in of and at in flow.splits:
            split_of_label[flow.splits[at].labels] = at  # of several splits of the same channels, the last one
        pair = operator.values[-2:]
        if flow.rule_of(operator) is not product or len(pair) < 2 or {*pair} & flow.views.keys():
            continue
        parts: tuple[set[int], set[int]] = (set(), set())
        for value in pair:
            for dim, labels in enumerate(flow.of(value)):
                if labels is not None:
                    parts[dim >= len(value.shape) - 2].update(split_of_label[labels].tolist())
        for part in parts:
            part.discard(FIXED)
        found[at] = parts
    return found


def _joined(parts: dict[int, Attention], products: list[set[int]]) -> list[Attention]:
    """Returns one attention for all splits that meet in products."""
    for numbers in products:
        members = {id(parts[n]): parts[n] for n in sorted(numbers & parts.keys())}
        whole = Attention()
        for part in members.values():
            whole.heads |= part.heads
            whole.dims |= part.dims
        parts |= dict.fromkeys((whole.heads | whole.dims).keys(), whole)
    return list({id(part): part for part in parts.values()}.values())
