"""Import of libraries that only some runtimes need."""

import importlib
from types import ModuleType

from trackers.errors import TrackerError


def required(module: str, purpose: str, extra: str) -> ModuleType:
    """Imports a library.

    Args:
        module: its name.
        purpose: what needs the library, for the error message.
        extra: name of the extra of this project that installs the library.

    Raises:
        TrackerError: the library, or one that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        # The extra needs all packages of this project, so pip would also install PyTorch.
        alone = f", or on a machine without PyTorch: pip install {module}" if extra == "runtime" else ""
        raise TrackerError(
            f"{purpose} needs the package {missing}, which cannot be imported; install it: "
            f"pip install 'light-weight-trackers[{extra}]'{alone}"
        ) from error
