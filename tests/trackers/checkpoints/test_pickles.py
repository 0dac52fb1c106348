"""Tests of reading `torch.save` files: all data is read, and no code runs."""

import argparse
import copyreg
import functools
import io
import pickle
import subprocess
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict, defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trackers.checkpoints.pickles import StandIn, UnsafePickleError, read_pickle
from trackers.errors import TrackerError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value, path, zipped, protocol=2):
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


def write_raw(pickled, path, container):
    """Writes a file as `torch.save` does, with any pickle inside."""
    if container == "bare":
        path.write_bytes(pickled)
    elif container == "legacy":
        about = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in about) + pickled + pickle.dumps([], 2))
    else:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"}.items():
                file.writestr(f"archive/{name}", content)
    return path


@FORMATS
def test_weights_come_back(tmp_path, zipped):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    base = torch.randn(6, 4)
    named = nn.Parameter(torch.randn(3))
    named.note = "kept"
    tensors = [base, base.t(), base[2:, 1:3], base.half(), base.bfloat16(), torch.arange(7), torch.tensor(True)]
    saved = {"net": network.state_dict(), "tensors": tensors, "parameter": network[0].weight, "named": named}
    saved |= {
        "plain": [1, 2.5, None, b"\xff\x00", b"", bytearray(b"\xff"), {"a"}, range(3), (torch.float16, torch.Size([2]))]
    }
    read = read_pickle(save(saved, tmp_path / "a.pth.tar", zipped))

    assert isinstance(read["net"], OrderedDict)
    assert read["net"]._metadata == network.state_dict()._metadata
    nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).load_state_dict(read["net"], strict=True)
    assert all(torch.equal(read["net"][name], w) for name, w in network.state_dict().items())
    for got, want in zip(read["tensors"], tensors, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)
    read["tensors"][0][2, 1] = 77  # the second and third are views of the first
    assert read["tensors"][1][1, 2] == read["tensors"][2][0, 0] == 77
    assert isinstance(read["parameter"], nn.Parameter)
    assert torch.equal(read["parameter"], network[0].weight)
    assert read["named"].note == "kept"
    assert read["plain"] == saved["plain"]


class OldTensor:
    """Pickles a tensor as torch before 0.4 did."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor, (torch.ones(2)._typed_storage(), 0, (2,), (1,))


@FORMATS
def test_weights_of_long_ago_and_of_another_device(tmp_path, monkeypatch, zipped):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")
    read = read_pickle(save([OldTensor(), torch.ones(2)], tmp_path / "a.pth", zipped))
    assert all(torch.equal(w, torch.ones(2)) and w.device.type == "cpu" for w in read)


@pytest.fixture
def project(monkeypatch):
    """Provides a module while its objects are saved, and counts its uses afterwards."""
    module = types.ModuleType("lib.train.settings")
    exec(
        """
calls = []
class Settings:
    def __new__(cls, *args): calls.append("new"); return super().__new__(cls)
    def __setstate__(self, state): calls.append("setstate")
class Meter(Settings):
    __slots__ = ["avg"]
class Config(dict):
    def __setitem__(self, key, value): calls.append("setitem")
class History(list): pass
class Keyword:
    def __new__(cls, *, size=None): calls.append("new"); return super().__new__(cls)
    def __getnewargs_ex__(self): return (), {"size": 3}
class Built:
    def __reduce__(self): return build, (1, "x")
def build(*args): calls.append("build"); return args
""",
        vars(module),
    )
    for name in ("lib", "lib.train", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return module


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_other_projects_are_data(tmp_path, monkeypatch, project, zipped, protocol):
    settings, meter, config, history = (
        project.Settings(),
        project.Meter(),
        project.Config(MODEL=3),
        project.History([1]),
    )
    settings.config_name, settings.weights, meter.avg, config.attribute = "vitb_256", torch.ones(2), 0.5, 1
    saved = [settings, meter, config, history, project.Built(), project.build, project.Settings]
    saved += [project.Keyword()] if protocol == 4 else []  # only there, calls with keywords have an opcode
    path = save(saved, tmp_path / "a.pth", zipped, protocol)

    project.calls.clear()
    read_pickle(path)
    assert project.calls == []
    torch.load(path, weights_only=False)
    assert set(project.calls) == {"new", "setstate", "setitem", "build"}  # there was something to run

    monkeypatch.delitem(sys.modules, project.__name__)
    read = read_pickle(path)
    assert all(isinstance(value, StandIn) for value in read[:5] + read[7:])
    assert read[0].config_name == "vitb_256"
    assert torch.equal(read[0].weights, torch.ones(2))
    assert read[1].avg == 0.5
    assert vars(read[2]) == {"MODEL": 3, "attribute": 1}
    assert repr(read[0]) == "<StandIn[lib.train.settings.Settings]>"
    assert "StandIn[lib.train.settings.build]" in repr(read[5])
    assert issubclass(read[6], StandIn)


@FORMATS
def test_plain_data_of_installed_code(tmp_path, zipped):
    saved = argparse.Namespace(
        lr=1e-3, output=Path("out"), by_name=defaultdict(list, a=[1]), loss=np.float64(0.5), array=np.arange(3)
    )
    read = read_pickle(save({"args": saved, "weights": torch.ones(1)}, tmp_path / "a.pth", zipped))
    assert read["args"].lr == 1e-3
    assert read["args"].by_name.a == [1]
    assert all(isinstance(value, StandIn) for value in (read["args"], read["args"].output, read["args"].loss))
    assert torch.equal(read["weights"], torch.ones(1))


def stack_global(module, name):
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


ATTACKS = {  # each creates the file MARK when a real unpickler reads it
    "system": b"cposix\nsystem\n(Vtouch MARK\ntR.",
    "inst": b"(Vtouch MARK\niposix\nsystem\n.",
    "subprocess": b"csubprocess\ncheck_call\n((Vtouch\nVMARK\nltR.",
    "python 2 name": b"ccommands\ngetoutput\n(Vtouch MARK\ntR.",
    "eval": b"c__builtin__\neval\n(Vopen('MARK', 'w')\ntR.",
    "exec": b"cbuiltins\nexec\n(Vopen('MARK', 'w')\ntR.",
    "getattr chain": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVsystem\ntR(Vtouch MARK\ntR.",
    "map": b"cbuiltins\nlist\n(cbuiltins\nmap\n(cos\nsystem\n(Vtouch MARK\nltRtR.",
    "dotted": stack_global("torch", "serialization.os.system") + b"(Vtouch MARK\ntR.",
    "after data": b"(ccollections\nOrderedDict\n)Rcos\nsystem\n(Vtouch MARK\ntRt.",
    "numpy": b"cnumpy.testing\nrunstring\n(Vopen('MARK', 'w')\n}tR.",
    "torch": b"ctorch.utils.collect_env\nrun\n(Vtouch MARK\ntR.",
    "nested load": b"NESTED",
    "extension": b"\x80\x02\x82\xf0(X\x0a\x00\x00\x00touch MARKtR.",
}


def attack(kind):
    if kind == "nested load":
        inner = io.BytesIO()
        reduced = type("Reduced", (), {"__reduce__": lambda self: (subprocess.check_call, (["touch", "MARK"],))})
        torch.save(reduced(), inner)
        inner = inner.getvalue()
        return b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + len(inner).to_bytes(4, "little") + inner + b"\x85R."
    return ATTACKS[kind]


@pytest.fixture
def extension():
    """Extension code 240 means `os.system`, and the real unpickler has cached it."""
    copyreg.add_extension("os", "system", 240)
    pickle.loads(b"\x80\x02\x82\xf0.")
    yield
    copyreg.remove_extension("os", "system", 240)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_are_refused(tmp_path, monkeypatch, kind, container):
    monkeypatch.chdir(tmp_path)
    path = write_raw(attack(kind), tmp_path / "a.pth", container)
    with pytest.raises(UnsafePickleError, match=r"a\.pth asks for .*state_dict"):
        read_pickle(path)
    assert not Path("MARK").exists()

    with suppress(Exception):  # the attack is one
        torch.load(path, weights_only=False)
    assert Path("MARK").exists()


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("pickled", "named"),
    [
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "_rebuild_tensor"),
        (b"\x80\x02ctorch\nSize\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "Size"),
        (b"\x80\x02clib\nThing\nN}X\x0c\x00\x00\x00dump_patchesK\x01s\x86b.", "Thing"),
        (b"\x80\x02(X\x06\x00\x00\x00moduleclib\nThing\nX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ.", "persistent"),
        (b"ctorch.storage\nUntypedStorage\n.", "UntypedStorage"),
        (b"\x80\x02ctorch.hub\nload\n.", r"torch\.hub\.load"),
    ],
)
def test_nothing_of_the_process_is_reached(tmp_path, pickled, named, container):
    path = write_raw(pickled, tmp_path / "a.pth", container)
    with pytest.raises(UnsafePickleError, match=named):
        read_pickle(path)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "a")


def test_an_attack_through_installed_packages_is_inert(tmp_path):
    read = read_pickle(write_raw(b"chydra.utils\ncall\n(Vx\ntR.", tmp_path / "a.pth", "zip"))
    assert repr(read) == "<StandIn[hydra.utils.call]>"


def test_the_real_pickle_is_out_of_reach(tmp_path, monkeypatch):
    paths = [save({"w": torch.ones(2)}, tmp_path / f"{zipped}.pth", zipped) for zipped in (True, False)]
    monkeypatch.setattr(pickle, "load", functools.partial(pytest.fail, "pickle.load"))
    monkeypatch.setattr(pickle, "Unpickler", functools.partial(pytest.fail, "pickle.Unpickler"))
    for path in paths:
        assert torch.equal(read_pickle(path)["w"], torch.ones(2))


def torchscript(path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def broken_half(zipped, path):
    path.write_bytes(save({"w": torch.randn(100)}, path, zipped).read_bytes()[:300])


def tar(path):
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (torchscript, "TorchScript"),
        (tar, "tar archive"),
        (lambda path: path.write_text("<html>404</html>"), ""),
        (lambda path: path.write_bytes(b""), ""),
        (functools.partial(broken_half, True), ""),
        (functools.partial(broken_half, False), ""),
        (lambda path: path.write_bytes(pickle.dumps({"w": np.ones(3)})), "magic number"),
        (lambda path: write_raw(b"(Vab", path, "zip"), ""),
        (lambda path: write_raw(b"N)R.", path, "zip"), "TypeError"),
        (lambda path: write_raw(b"Vdata\nP0\n.", path, "zip"), ""),
    ],
    ids=["torchscript", "tar", "text", "empty", "half zip", "half legacy", "pickle", "cut", "call None", "text id"],
)
def test_other_files_are_named(tmp_path, make, named):
    path = tmp_path / "a.safetensors"  # a suffix by which torch would choose another reader
    make(path)
    with pytest.raises(
        TrackerError, match=rf"a\.safetensors cannot be read as a file of torch\.save .*{named}"
    ) as raised:
        read_pickle(path)
    assert type(raised.value) is TrackerError


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        read_pickle("nowhere.pth")
