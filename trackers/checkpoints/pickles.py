"""Checkpoints of other projects: what a `torch.save` file holds, without running a line of what it asks for.

The official trackers save, beside their weights, objects of their own classes and numpy values. A pickle rebuilds an
object by calling what it names, so a reader is as safe as the names it resolves. Here nothing is ever imported: a name
is one of the few in `_REAL`, or refused because it belongs to code that is installed here, or an inert `StandIn`.
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

# The only names that give the real thing. All are harmless whatever they are called with, which is what makes chains of
# calls harmless too; what loads, imports, evaluates or looks up attributes by name must never be among them. Nor must
# `torch.UntypedStorage`, which takes the address of native code as its `allocator` (so no `_rebuild_tensor_v3`).
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
        "_codecs.encode": lambda text, encoding="latin1": str.encode(text, "latin1"),  # how protocol 2 writes bytes
        "collections.OrderedDict": OrderedDict,
        "torch.Size": torch.Size,
        "torch.device": torch.device,
    }
)
# Names of installed code that stand for plain data, and appear in honest files.
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
# A stand-in would be as safe here. But no honest tracker asks for these, and one for a function of torch that rebuilds
# an exotic tensor would lose weights in silence.
_REFUSED = sys.stdlib_module_names | {"torch", "numpy"}


class UnsafePickleError(ValueError):
    """A file that asks for code which an honest checkpoint has no need of; none of it ran."""


class StandIn:
    """In place of an object whose class is not available: its attributes, and none of its behaviour.

    The state that was saved is readable (`settings.config_name`, `vars(settings)`), the items of a dictionary subclass
    as well (`vars(config)["MODEL"]`). Constructor arguments are dropped (so a numpy value is lost), list items too.
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
        """Pickles fill a list subclass through this."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Unpickler(pickle._Unpickler):  # the one written in C hands out extension objects without asking `find_class`
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
        """Sets attributes: never of the real classes and functions, which belong to the whole process."""
        if not isinstance(self.stack[-2], StandIn | OrderedDict):
            raise UnsafePickleError(f"a change of {self.stack[-2]!r:.80}")
        super().load_build()

    def load_binpersid(self) -> None:
        """For anything but a storage, torch compares source code, and can be brought to write a patch to a file."""
        if not isinstance(self.stack[-1], tuple) or self.stack[-1][:1] != ("storage",):
            raise UnsafePickleError(f"the persistent object {self.stack[-1]!r:.80}")
        super().load_binpersid()

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build, pickle.BINPERSID[0]: load_binpersid}


# What `torch.load` takes from a pickle module, complete: it cannot reach the real one.
_PICKLE = SimpleNamespace(
    __name__=__name__, Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load()
)


def read_pickle(path: str | Path, device: str = "cpu") -> Any:
    """What a file written by `torch.save` holds, on the CPU; reading it runs none of the code that it names.

    Both formats are read, zip (torch >= 1.6) and the one before. Objects of classes that are not plain data come back
    as `StandIn`. Memory is not bounded: a file may still ask for more than there is.

    Args:
        path: the file.
        device: "cpu", or "meta" to read shapes without the numbers.

    Raises:
        UnsafePickleError: the file asks for something of the standard library, torch or numpy that is not plain data.
        ValueError: not a file of `torch.save`, damaged, or a TorchScript archive.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            _check_format(file)
            # A file object, not its path: by a path's suffix, torch would choose another reader.
            return torch.load(file, map_location=device, weights_only=False, pickle_module=_PICKLE)
        except UnsafePickleError as error:
            raise UnsafePickleError(
                f"{path} asks for {error}, which is not plain data and could run code; nothing of it ran. Pass the "
                "official file, or one with the weights alone, as torch.save(network.state_dict(), path) writes it"
            ) from None
        except Exception as error:  # arbitrary bytes in, any exception out: of pickle, zip, torch, ...
            raise ValueError(
                f"{path} cannot be read as a file of torch.save ({type(error).__name__}: {error}); "
                "pass a .safetensors file of train.py or prune.py, or an official checkpoint as it was downloaded"
            ) from error


def _check_format(file: Any) -> None:
    """Leaves nothing to the two readers that `torch.load` would turn to without a pickle module."""
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        # Torch's own reader, because two readers can disagree on what a crafted zip contains.
        if "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records():
            raise ValueError("it is a TorchScript archive, that is a program; what is read are saved weights")
    elif tarfile.is_tarfile(file):  # with links in it, torch's extraction reaches files outside of the archive
        raise ValueError("it is a tar archive; unpack it, or save it again with a torch newer than 0.1")
    file.seek(0)
