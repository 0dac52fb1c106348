"""The command `python -m pruning`, see `command_line.parser`."""

import sys

from pruning.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
