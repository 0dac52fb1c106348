"""Safe reading of `torch.save` files from other projects: no code that a file names is run.

Official trackers save objects of their own classes and numpy values beside their weights. A pickle rebuilds an object
by calling the functions that it names, so a reader is as safe as the names that it resolves. This reader imports
nothing. It resolves the names in `_REAL`, refuses other names of the standard library, torch and numpy unless they are
in `_INERT`, and replaces all remaining names by an inert `StandIn`.
"""

import _compat_pickle
import io
import math
import pickle
import reprlib
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_parameter_with_state

from trackers.checkpoints.torch_files import read_torch_file
from trackers.errors import TrackerError


def _rebuild_tensor(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    """Returns a tensor of the entries of a storage (n,). Its gradient's settings and hooks are left out.

    Raises:
        ValueError: the tensor has more entries than its storage, so that a copy of it would need more memory.
    """
    if math.prod(size) > len(storage):
        raise ValueError(f"a tensor of shape {reprlib.repr(size)} has more entries than its storage, {len(storage):,}")
    return storage.as_strided(tuple(size), tuple(stride), offset)  # checks the bounds


# The only names that resolve to real objects. All are harmless with any arguments, so chains of calls are harmless too.
# Never add functions that load, import, evaluate or look up attributes by name. Never add `torch.UntypedStorage`, whose
# `allocator` argument is the address of native code (hence no `_rebuild_tensor_v3`).
_REBUILDS = (_rebuild_tensor, _rebuild_parameter, _rebuild_parameter_with_state)
_MADE = (bytearray, bytes, complex, frozenset, range, set, slice)  # types whose objects pickles make by calls
_REAL = (
    {f"builtins.{kind.__name__}": kind for kind in (bool, dict, float, int, list, str, tuple, *_MADE)}
    | {str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
    | {
        f"torch.{name}Storage": dtype
        for name, dtype in {
            **{"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16},
            **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
            **{"Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64},
        }.items()
    }
    | {
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        **{f"torch._utils.{rebuild.__name__}": rebuild for rebuild in _REBUILDS[1:]},
        "_codecs.encode": lambda text, encoding="latin1": str.encode(text, "latin1"),  # bytes in protocol 2
        "collections.OrderedDict": OrderedDict,
        "torch.Size": torch.Size,
        "torch.device": torch.device,
    }
)
# Types that benign files name but never call. A call could make a large object of a small one.
_NEVER_CALLED = (bool, dict, float, int, list, str, tuple)
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

MAX_STAND_INS = 1_000


class UnsafePickleError(TrackerError):
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
    """Unpickler of the names in `_REAL`, whose objects need memory and time in proportion to the pickle's length."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.budget = len(file.getbuffer())  # entries that calls may copy
        self.stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        renamed = _compat_pickle.IMPORT_MAPPING.get(module, module), name  # Python 2's names, e.g. `commands`
        full_name = ".".join(_compat_pickle.NAME_MAPPING.get((module, name), renamed))
        if full_name in _REAL:
            return _REAL[full_name]
        if full_name.split(".")[0] in _REFUSED and full_name not in _INERT:
            raise UnsafePickleError(f"{full_name:.200}")
        if full_name not in self.stand_ins:
            if len(self.stand_ins) == MAX_STAND_INS:
                raise ValueError(f"it names more than {MAX_STAND_INS:,} classes of other projects")
            self.stand_ins[full_name] = type(f"StandIn[{full_name}]", (StandIn,), {})
        return self.stand_ins[full_name]

    def get_extension(self, code: int) -> None:
        raise UnsafePickleError(f"object {code} of the extension registry")

    def load_build(self) -> None:
        """Sets attributes, but never of real classes and functions, which the whole process shares."""
        changed = self.stack[-2]
        if not isinstance(changed, StandIn | OrderedDict):
            raise UnsafePickleError(f"a change of {getattr(changed, '__name__', reprlib.repr(changed))}")
        super().load_build()

    def load_binpersid(self) -> None:
        """Loads a storage and nothing else."""
        if not isinstance(self.stack[-1], tuple) or self.stack[-1][:1] != ("storage",):
            raise UnsafePickleError(f"the persistent object {reprlib.repr(self.stack[-1])}")
        super().load_binpersid()

    # Calls

    def load_reduce(self) -> None:
        """Calls a function after a check of its arguments."""
        self._check_call(self.stack[-2], self.stack[-1])
        super().load_reduce()

    def load_newobj(self) -> None:
        """Makes an object after a check of its arguments."""
        self._check_call(self.stack[-2], self.stack[-1])
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        """Makes an object of another project; benign files make no real object with keywords."""
        if not _is_stand_in(self.stack[-3]):
            raise ValueError(f"a call of {reprlib.repr(self.stack[-3])} with keywords")
        super().load_newobj_ex()

    def _instantiate(self, kind: Any, args: Any) -> None:
        self._check_call(kind, args)
        super()._instantiate(kind, args)

    def _check_call(self, function: Any, args: Any) -> None:
        """Refuses calls that need more memory than the pickle has bytes, or more time: range(10**12), bytes(10**12)."""
        if _is_stand_in(function) or function in _REBUILDS:
            return
        if any(function is kind for kind in _NEVER_CALLED) and args:
            raise ValueError(f"a call of {function.__name__}")
        for arg in args:
            if isinstance(arg, range):
                raise ValueError("a call that copies a range, whose entries the pickle does not hold")
            if isinstance(arg, Sized):
                self.budget -= len(arg)
                if isinstance(arg, list | tuple | dict):
                    _check_keys(arg)
            elif isinstance(arg, int) and function in (bytes, bytearray):
                self.budget -= max(0, arg)
        if self.budget < 0:
            raise ValueError("its calls make more than the file holds")

    def load_bytearray8(self) -> None:
        """Reads a bytearray without reserving the memory that the pickle claims."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    # Keys of mappings and items of sets, whose hashes are computed

    def load_setitem(self) -> None:
        """Sets an entry after a check of its key."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Sets entries after a check of their keys."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Makes a mapping after a check of its keys."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """Adds items to a set after a check of them."""
        _check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Makes a set after a check of its items."""
        _check_keys(self.stack)
        super().load_frozenset()

    dispatch = _PythonUnpickler.dispatch | {
        opcode[0]: function
        for opcode, function in {
            pickle.BUILD: load_build,
            pickle.BINPERSID: load_binpersid,
            pickle.REDUCE: load_reduce,
            pickle.NEWOBJ: load_newobj,
            pickle.NEWOBJ_EX: load_newobj_ex,
            pickle.BYTEARRAY8: load_bytearray8,
            pickle.SETITEM: load_setitem,
            pickle.SETITEMS: load_setitems,
            pickle.DICT: load_dict,
            pickle.ADDITEMS: load_additems,
            pickle.FROZENSET: load_frozenset,
        }.items()
    }


def _is_stand_in(function: Any) -> bool:
    return isinstance(function, type) and issubclass(function, StandIn)


def _check_keys(keys: Sequence[Any] | Mapping[Any, Any]) -> None:
    """Refuses tuples in tuples: the time for a hash doubles with each level that holds the level below twice."""
    for key in keys:
        if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
            raise ValueError("a key of nested tuples")


def read_pickle(path: str | Path, device: str = "cpu") -> Any:
    """Returns the content of a file written by `torch.save`, without running any code that the file names.

    Both formats can be read: zip (torch >= 1.6) and the older one. Objects of classes that are not plain data become
    `StandIn`s. The memory that is needed is a multiple of the file's size: sizes that the file claims are compared
    with what it holds.

    Args:
        path: the file.
        device: "cpu", or "meta" to read shapes without values.

    Raises:
        UnsafePickleError: the file names an object of the standard library, torch or numpy that is not plain data.
        TrackerError: the file was not written by `torch.save`, is damaged, claims more than it holds, or is a
            TorchScript archive.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return read_torch_file(file, path.stat().st_size, device, _Unpickler)
        except UnsafePickleError as error:
            raise UnsafePickleError(
                f"{path} asks for {error}, which is not plain data and could run code; none of it was run. Pass the "
                "official file, or a file of the weights alone, written by torch.save(network.state_dict(), path)"
            ) from None
        except Exception as error:  # arbitrary bytes cause arbitrary exceptions of pickle, zip, torch, ...
            raise TrackerError(
                f"{path} cannot be read as a file of torch.save ({type(error).__name__}: {_start(str(error))}); "
                "pass a .safetensors file of train.py or prune.py, or an official checkpoint as it was downloaded"
            ) from error


def _start(text: str) -> str:
    """Returns the start of a message, which may quote the file, in printable characters."""
    return "".join(c if c.isprintable() else " " for c in text[:300])
