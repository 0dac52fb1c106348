"""Checkpoints: saving and loading, conversion of official files, and reading of pickles without running them."""
