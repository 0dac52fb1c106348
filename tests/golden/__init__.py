"""Reference vectors as tests: numbers that the original implementations computed, see `cases.py`."""
