"""A job of a study as a graph of cached stages."""
