"""Discovery: finds the groups of a network that declares none.

`recording` runs the network and notes its operators; `flow` follows units through them by the `rules`; `finding` makes
groups of what can be cut, and `gating` chooses the weights that carry their gates.
"""
