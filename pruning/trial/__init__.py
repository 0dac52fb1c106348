"""Cuts that are tried: copies are cut before a training, so that a wrong declaration is found early.

`trials` cuts the copies by the plans of `trial_plans`. `final_cut` cuts the network itself, and undoes a cut that
computes something else than the masked network. `comparison` compares the outputs of a masked and of a cut network.
`unchanged_buffers` runs networks whose forward updates buffers. `cut_errors` and `layer_sizes` tell what
fails in a cut network, and which tensor a group has forgotten.
"""
