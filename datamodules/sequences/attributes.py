"""Attributes of whole videos, e.g. fast motion, by which data sets sort their sequences."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Attributes:
    """The sequences with each attribute.

    Attributes:
        groups: names of the sequences by attribute, e.g. "fast motion" or "motion_class: running".
        note: which file would tell more; "" if nothing is missing.
    """

    groups: Mapping[str, frozenset[str]]
    note: str = ""


# Reads the attributes of the sequences with some names; raises DataError.
AttributeReader = Callable[[Iterable[str]], Attributes]
