"""Real things that are cut out of annotated pictures, and real backdrops, for the bank of `datamodules.scenes`."""
