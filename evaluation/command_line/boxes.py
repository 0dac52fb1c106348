"""Boxes on the command line. Hydra takes commas for a sweep, so `box=x,y,w,h` needs brackets."""

import re

NUMBERS = re.compile(r"box=([^,\s\[\]]+(?:,[^,\s\[\]]+)+)")


def with_brackets(argument: str) -> str:
    """Returns `box=[x,y,w,h]` for `box=x,y,w,h`, and any other argument as it is."""
    found = NUMBERS.fullmatch(argument)
    return f"box=[{found[1]}]" if found else argument
