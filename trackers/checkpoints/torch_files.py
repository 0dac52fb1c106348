"""Containers of `torch.save`: the zip format of today, and the format of torch before 1.6, without `torch.load`.

Both hold a pickle and the raw entries of its tensors, the storages. `torch.load` reserves the memory
that a file claims to need; these readers compare each claim with what the file holds.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Protocol

import torch
from torch import Tensor

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAX_PICKLE = 32 * 2**20  # bytes of a pickle without its storages; an official file has less than one percent of it
ITEM_SIZE = 8  # bytes of the number in front of each storage of the older format


class Unpickler(Protocol):
    """Reader of one pickle; `persistent_load` returns the storages that the pickle names."""

    persistent_load: Callable[[Any], Tensor]

    def load(self) -> Any:
        """Returns the object of the pickle."""


MakeUnpickler = Callable[[Any], Unpickler]


def read_torch_file(file: io.BufferedIOBase, size: int, device: str, unpickler: MakeUnpickler) -> Any:
    """Returns the object in a file of `torch.save`.

    Args:
        file: the file, at its start.
        size: number of bytes in the file.
        device: "cpu", or "meta" to read shapes without values.
        unpickler: makes the reader of a pickle.

    Raises:
        ValueError: the file has another format, or claims more than it holds.
    """
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(file, size, device, unpickler)
    if start[257:262] == b"ustar":
        raise ValueError("it is a tar archive; unpack it, or save it again with a torch newer than 0.1")
    return _read_legacy(file, size, device, unpickler)


def _read_zip(file: io.BufferedIOBase, size: int, device: str, unpickler: MakeUnpickler) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = _records(archive, size)
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise ValueError("its numbers are in the order of another machine; save it again on this one")
        if records["data.pkl"].file_size > MAX_PICKLE:
            raise ValueError(f"its pickle is larger than {MAX_PICKLE:,} bytes")
        storages: dict[str, Tensor] = {}

        def load_storage(saved: Any) -> Tensor:
            dtype, key, count, _ = _description(saved)
            record = records[f"data/{key}"]
            if key not in storages:
                storages[key] = _bytes(record.file_size, device)
                if device == "cpu":
                    with archive.open(record) as content:
                        assert isinstance(content, zipfile.ZipExtFile)  # `IO` has no `readinto`
                        content.readinto(storages[key].numpy().data)
            if count * dtype.itemsize > record.file_size:
                raise ValueError(f"storage {key} claims {count:,} entries, more than the file holds")
            return storages[key][: count * dtype.itemsize].view(dtype)

        reader = unpickler(io.BytesIO(archive.read(records["data.pkl"])))
        reader.persistent_load = load_storage
        return reader.load()


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries of an archive by name without its folder; nothing of them is written to the disk."""
    if any(name.endswith("/constants.pkl") for name in archive.namelist()):
        raise ValueError("it is a TorchScript archive, which is a program; pass saved weights")
    records: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = str(PurePosixPath(*PurePosixPath(entry.filename).parts[1:]))
        if name in records:
            raise ValueError(f"it holds {name!r:.80} twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"{name!r:.80} is compressed, which torch.save never does")
        records[name] = entry
    if sum(entry.file_size for entry in records.values()) > size:
        raise ValueError("its entries overlap: together they claim more bytes than the file has")
    if "data.pkl" not in records:
        raise ValueError("it is a zip archive without 'data.pkl'")
    return records


def _read_legacy(file: io.BufferedIOBase, size: int, device: str, unpickler: MakeUnpickler) -> Any:
    head = io.BytesIO(file.read(MAX_PICKLE))
    if unpickler(head).load() != MAGIC_NUMBER:
        raise ValueError("it does not start with the magic number of torch.save")
    unpickler(head).load()  # version of the format
    unpickler(head).load()  # sizes of C's types on the machine of the author
    storages: dict[str, Tensor] = {}
    item_sizes: dict[str, int] = {}

    def load_storage(saved: Any) -> Tensor:
        dtype, key, count, view = _description(saved)
        if key not in storages:
            if count * dtype.itemsize + sum(s.numel() for s in storages.values()) > size:
                raise ValueError(f"storage {key} claims {count:,} entries, more than the file holds")
            storages[key], item_sizes[key] = _bytes(count * dtype.itemsize, device), dtype.itemsize
        typed = storages[key].view(dtype)
        if view is None:
            return typed
        _, first, length = view
        return typed[_whole(first) : first + _whole(length)]

    reader = unpickler(head)
    reader.persistent_load = load_storage
    content = reader.load()
    keys = unpickler(head).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or {*keys} != storages.keys():
        raise ValueError("its storages are not those that its tensors name")
    file.seek(head.tell())
    for key in keys:
        count, storage = int.from_bytes(file.read(ITEM_SIZE), "little"), storages[key]
        if count * item_sizes[key] != storage.numel() or file.tell() + storage.numel() > size:
            raise ValueError(f"storage {key:.80} is cut, or has another size than its tensor says")
        if device == "cpu":
            file.readinto(storage.numpy().data)
        else:
            file.seek(storage.numel(), io.SEEK_CUR)
    return content


def _description(saved: Any) -> tuple[torch.dtype, str, int, Any]:
    """Returns the type, key, number of entries and view of a storage.

    Args:
        saved: ("storage", type, key, device, number of entries), in the older format with a view or None.
    """
    word, dtype, key, _, count, *view = saved
    if word != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
        raise ValueError("its storages are described in another way than torch.save does")
    return dtype, key, _whole(count), view[0] if view else None


def _whole(count: Any) -> int:
    if type(count) is not int or count < 0:
        raise ValueError("a number of entries is no whole number from 0")
    return count


def _bytes(count: int, device: str) -> Tensor:
    """Returns memory at an address that torch chooses: kernels round differently at others."""
    return torch.empty(count, dtype=torch.uint8, device=device)
