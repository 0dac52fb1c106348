"""Groups: which units of a network can only be cut together. Networks declare them, and `discovery` finds them.

`group` has the words `Group` and `Slice`, and `attributes` the numbers in modules that count units. `checks` compares
declarations with a network. `data` writes groups as plain data.
"""

from pruning.groups.group import Group, Slice, branches, entries_first, slices_of_norm

__all__ = ["Group", "Slice", "branches", "entries_first", "slices_of_norm"]
