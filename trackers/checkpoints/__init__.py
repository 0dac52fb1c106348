"""Checkpoints: saving, loading, recognising official files, and reading pickles without running them."""
