"""Safe reading of `torch.save` files from other projects: no code that a file names is run.

Official trackers save objects of their own classes and numpy values beside their weights. A pickle rebuilds an object
by calling the functions that it names, so a reader is as safe as the names that it resolves. This reader imports
nothing. It resolves the names in `_REAL`, refuses other names of the standard library, torch and numpy unless they are
in `_INERT`, and replaces all remaining names by an inert `StandIn`.
"""

import _compat_pickle
import pickle
import sys
import tarfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch._utils import _rebuild_parameter, _rebuild_parameter_with_state, _rebuild_tensor, _rebuild_tensor_v2

from pruning.errors import UserError

# The only names that resolve to real objects. All are harmless with any arguments, so chains of calls are harmless too.
# Never add functions that load, import, evaluate or look up attributes by name. Never add `torch.UntypedStorage`, whose
# `allocator` argument is the address of native code (hence no `_rebuild_tensor_v3`).
_REAL = (
    {
        f"builtins.{kind.__name__}": kind
        for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, range, set, slice, str, tuple)
    }
    | {str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
    | {
        f"torch._utils.{rebuild.__name__}": rebuild
        for rebuild in (_rebuild_parameter, _rebuild_parameter_with_state, _rebuild_tensor, _rebuild_tensor_v2)
    }
    | {
        "_codecs.encode": lambda text, encoding="latin1": str.encode(text, "latin1"),  # bytes in protocol 2
        "collections.OrderedDict": OrderedDict,
        "torch.Size": torch.Size,
        "torch.device": torch.device,
    }
)
# Names of installed code that are plain data and appear in benign files. They become stand-ins.
_INERT = {
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *("numpy.dtype", "numpy.ndarray", "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "types.SimpleNamespace",
}
# Packages whose other names are refused. Stand-ins for these names would be safe, too. But benign trackers do not use
# them, and a stand-in for a function of torch that rebuilds an exotic tensor would lose weights silently.
_REFUSED = sys.stdlib_module_names | {"torch", "numpy"}


class UnsafePickleError(UserError):
    """Error of a file that asks for code which no benign checkpoint needs. None of that code was run."""


class StandIn:
    """Replacement of an object whose class is not available. It has the object's attributes, but no methods.

    Saved state is readable (`settings.config_name`, `vars(settings)`), and so are the items of a dictionary subclass
    (`vars(config)["MODEL"]`). Constructor arguments, e.g. the value of a numpy scalar, and list items are lost.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # a tuple: (attributes, slots)
            if isinstance(part, dict):
                vars(self).update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        vars(self)[key] = value

    def append(self, item: Any) -> None:
        """Ignores an item of a list subclass."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


_PythonUnpickler: Any = pickle._Unpickler  # the C version returns extension objects without calling `find_class`


class _Unpickler(_PythonUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        renamed = _compat_pickle.IMPORT_MAPPING.get(module, module), name  # Python 2's names, e.g. `commands`
        full_name = ".".join(_compat_pickle.NAME_MAPPING.get((module, name), renamed))
        if full_name in _REAL:
            return _REAL[full_name]
        if full_name.split(".")[0] in _REFUSED and full_name not in _INERT:
            raise UnsafePickleError(full_name)
        return type(f"StandIn[{full_name}]", (StandIn,), {})

    def get_extension(self, code: int) -> None:
        raise UnsafePickleError(f"object {code} of the extension registry")

    def load_build(self) -> None:
        """Sets attributes, but never of real classes and functions, which the whole process shares."""
        if not isinstance(self.stack[-2], StandIn | OrderedDict):
            raise UnsafePickleError(f"a change of {self.stack[-2]!r:.80}")
        super().load_build()

    def load_binpersid(self) -> None:
        """Loads a storage and nothing else: for other objects torch compares source code and may write patch files."""
        if not isinstance(self.stack[-1], tuple) or self.stack[-1][:1] != ("storage",):
            raise UnsafePickleError(f"the persistent object {self.stack[-1]!r:.80}")
        super().load_binpersid()

    dispatch = _PythonUnpickler.dispatch | {pickle.BUILD[0]: load_build, pickle.BINPERSID[0]: load_binpersid}


# The attributes of a pickle module that `torch.load` uses. With this module it cannot call the real `pickle`.
_PICKLE = SimpleNamespace(
    __name__=__name__, Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load()
)


def read_pickle(path: str | Path, device: str = "cpu") -> Any:
    """Returns the content of a file written by `torch.save`, without running any code that the file names.

    Both formats can be read: zip (torch >= 1.6) and the older one. Objects of classes that are not plain data become
    `StandIn`s. Memory is not limited: a file may still ask for more memory than the machine has.

    Args:
        path: the file.
        device: "cpu", or "meta" to read shapes without values.

    Raises:
        UnsafePickleError: the file names an object of the standard library, torch or numpy that is not plain data.
        UserError: the file was not written by `torch.save`, is damaged, or is a TorchScript archive.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            _check_format(file)
            # A file object, not a path: torch chooses its reader by a path's suffix.
            return torch.load(file, map_location=device, weights_only=False, pickle_module=_PICKLE)
        except UnsafePickleError as error:
            raise UnsafePickleError(
                f"{path} asks for {error}, which is not plain data and could run code; none of it was run. Pass the "
                "official file, or a file of the weights alone, written by torch.save(network.state_dict(), path)"
            ) from None
        except Exception as error:  # arbitrary bytes cause arbitrary exceptions of pickle, zip, torch, ...
            raise UserError(
                f"{path} cannot be read as a file of torch.save ({type(error).__name__}: {error}); "
                "pass a .safetensors file of train.py or prune.py, or an official checkpoint as it was downloaded"
            ) from error


def _check_format(file: Any) -> None:
    """Refuses files for which `torch.load` would use a reader that ignores the pickle module."""
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        # Torch's own zip reader: another reader could disagree about the contents of a crafted file.
        if "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records():
            raise ValueError("it is a TorchScript archive, which is a program; pass saved weights")
    elif tarfile.is_tarfile(file):  # torch would follow links in it to files outside of the archive
        raise ValueError("it is a tar archive; unpack it, or save it again with a torch newer than 0.1")
    file.seek(0)
