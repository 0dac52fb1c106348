"""Trial cuts: they cut copies of a network before a training, so that a wrong declaration is found early.

`trials` cuts the copies. `comparison` compares the outputs of a masked and of a cut network. `cut_errors` and
`layer_sizes` tell what fails in a cut network, and which tensor a group has forgotten.
"""
