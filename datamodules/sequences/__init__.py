"""Annotated videos: one sequence, a table of many, the cached index of a data set, and parsers of annotation files."""
