"""Discovery: finds the groups of a network that declares none.

- `finding`: `find_groups` joins these steps. `readable` checks before them that the network runs.
- `recording`: runs the network on the meta device and notes its operators. `tracked_attributes` and `tracked_shapes`
  tell which of their sizes come from attributes of modules, and which from the shapes of tensors.
- `flow`: follows `units`, positions that can only be removed together, through the operators by the `rules`, one
  function for each kind of operator. `reshapes` merges and splits dimensions, and `splits` chooses what is a unit if
  channels are split into heads.
- `candidates`: sets of units that lie in the same tensors. `counting` finds the attributes that count them.
- `gating`: chooses the weights that carry the gates of a candidate, such that no operator sees a closed unit
  (`closing`). `membership` tells where the units of each candidate are.
- `naming`: names and kinds of the groups.
- `proof`: cuts copies of the network, and leaves out groups that cannot be cut.
"""
