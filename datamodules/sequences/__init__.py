"""Sequences: one, a table of many, the cached index of a data set, and the parsing of annotation files."""
