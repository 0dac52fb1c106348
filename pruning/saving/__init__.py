"""Saved children: files with weights and a recipe, from which the cut network is built again.

`saved` writes and reads them, `state_dicts` reads and loads weights, and `models` builds networks by name.
"""
