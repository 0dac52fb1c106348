"""Checkpoints: saving and loading, recognition of official files, and safe reading of pickles."""
