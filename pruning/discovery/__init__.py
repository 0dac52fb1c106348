"""Discovery: finds the groups of a network that declares none.

- `finding`: `find_groups` joins these steps. `readable` checks before them that the network runs.
  `reasons` tells in few lines what is left whole.
- `recording`: runs the network on the meta device and notes its operators. `tracked_attributes` and `tracked_shapes`
  tell which of their sizes come from attributes of modules, and which from the shapes of tensors, and `float_sizes`
  which of them become floating-point numbers.
- `flow`: follows `units`, positions that can only be removed together, through the operators by the `rules`, one
  function for each kind of operator. `reshapes` merges and splits dimensions. `attentions` finds reshapes that split
  channels into heads and dims, and `splits` chooses which of both are units.
- `candidates`: sets of units that lie in the same tensors. `counting` finds the attributes that count them.
- `gating`: chooses the weights that carry the gates of a candidate, such that no operator sees a closed unit
  (`closing`). `membership` tells where the units of each candidate are.
- `rescaling`: entries that a cut of dims of heads rescales.
- `emptying`: what remains of a run without the units of a group; `vanishing` tells with it which groups may lose all
  their units, as they are residual branches.
- `naming`: names and kinds of the groups.
- `proof`: cuts copies of the network, and leaves out groups that cannot be cut. `branch_proof` empties residual
  branches. Both choose their cuts by `part_cuts`.
"""
