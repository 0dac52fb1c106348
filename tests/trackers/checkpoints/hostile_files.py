"""Files that want to harm whoever loads them: each entry writes one file and says what the error must name."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

CANARY = "canary"
# What the strings and pickles below would run. The folder of the process is the one that the test looks at.
TOUCH = f"touch {CANARY}"
RESOLVED = "${oc.create:{_target_: os.system, command: '" + TOUCH + "'}}"


@dataclass
class Honest:
    """Parts of an honest checkpoint, which an entry changes."""

    recipe: dict[str, Any]
    header: dict[str, str]
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, path: Path) -> "Honest":
        with safe_open(path, "pt") as file:
            header = file.metadata()
        return cls(json.loads(header["recipe"]), header, load_file(path))

    def copy(self) -> "Honest":
        return Honest(deepcopy(self.recipe), dict(self.header), dict(self.weights))


Make = Callable[[Path, Honest], None]
HOSTILE: dict[str, tuple[Make, str]] = {}


def entry(name: str, make: Make, words: str = "") -> None:
    assert name not in HOSTILE, name
    HOSTILE[name] = (make, words)


# Recipes


def recipe(name: str, change: Callable[[dict[str, Any]], Any], words: str = "") -> None:
    def make(path: Path, honest: Honest) -> None:
        changed = honest.copy()
        replaced = change(changed.recipe)
        text = replaced if isinstance(replaced, str) else json.dumps(changed.recipe)
        save_file(changed.weights, path, changed.header | {"recipe": text})

    entry(f"recipe {name}", make, words)


def setting(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(node: dict[str, Any]) -> None:
        *path, last = place.split(".")
        for key in path:
            node = node[key]
        node[last] = value

    return change


LOAD = "${oc.create:{_target_: torch.load, f: evil.pt, weights_only: false}}"
for name, place, value in (
    ("interpolation that loads a pickle", "online.min_size", LOAD),
    ("interpolation that runs a command", "online.min_size", RESOLVED),
    ("interpolation in a list", "head_channels", [8, RESOLVED]),
    ("interpolation in lists of lists", "head_channels", [[[RESOLVED]]]),
    ("interpolation in a nested mapping", "recipe.rates", {"a": {"b": {"c": RESOLVED}}}),
    ("interpolation as a key", "recipe.rates", {RESOLVED: 1.0}),
    ("interpolation as a key of lists", "head_channels", [{RESOLVED: 1}]),
    ("interpolation in a text", "backbone", f"vit_{RESOLVED}"),
    ("interpolation of the environment", "backbone", "${oc.env:HOME}"),
    ("interpolation of hydra", "backbone", "${hydra:runtime.cwd}"),
    ("interpolation of another key", "search.size", "${template.size}"),
    ("escaped interpolation", "backbone", r"\${oc.env:HOME}"),
    ("interpolation as the class", "_target_", RESOLVED),
):
    recipe(name, setting(place, value), "resolved values")
recipe("missing value", setting("backbone", "???"), "has no value")

for target in (
    *("os.system", "builtins.exec", "subprocess.Popen", "torch.load", "hydra.utils.instantiate", "pruning.plan.Plan"),
    *("trackers.base.np.load", "trackers.checkpoints.checkpoint.load_tracker", "trackers.base.Tracker.__class__"),
    *(
        "trackers.ostrack.OSTrack.load_from_checkpoint",
        "trackers",
        "trackers.",
        "trackers..os.system",
        "trackers.nowhere.A",
    ),
    *("trackers.__builtins__.exec", "trackers/../os", "", 5, None, ["os.system"], {"_target_": "os.system"}, True),
):
    recipe(f"class {target!r}", setting("recipe.schedule", {"_target_": target, "command": TOUCH}), "trackers")
recipe("class in 300 packages", setting("_target_", "trackers" + ".a" * 300 + ".B"), "trackers.a.a")
recipe("class in a list", setting("head_channels", [[{"_target_": "os.system", "command": TOUCH}]]), "os.system")
for target in (
    "trackers.contents.CheckpointContents",
    "trackers.crops.CropSpec",
    "trackers.ostrack.elimination.Elimination",
):
    recipe(f"root {target}", setting("_target_", target), "is no tracker")
recipe("root of an abstract tracker", setting("_target_", "trackers.base.Tracker"), "network")
recipe("root without a class", lambda r: r.pop("_target_") and None, "_target_")
recipe("root that is partial", setting("_partial_", True), "is no tracker")
recipe("partial in place of an object", setting("online._partial_", True), "must be Online")
recipe("partial that is no truth value", setting("online._partial_", "yes"), "_partial_")
for key in ("_args_", "_convert_", "_recursive_", "_mode_", "__class__", "_"):
    recipe(f"key {key}", setting(f"online.{key}", ["all"]), key)

for name in (
    *("hf-hub:evil/model", "hf_hub:evil/model", "local-dir:/tmp/evil", "timm:vit_base_patch16_224", "../../evil"),
    *("vit_tiny_patch16_224.hf-hub:evil/model", "vit_tiny_patch16_224.nobody", "resnet50", "/etc/passwd", ""),
    *("http://127.0.0.1:9/model", "vit_tiny_patch16_224\x1b[2J", "v" * 2000, "\ud800"),
):
    recipe(f"network {name[:40]!r}", setting("backbone", name))
for key, value in (("pretrained", True), ("checkpoint_path", "evil.pt"), ("pretrained_cfg", {"file": "evil.pt"})):
    recipe(f"argument {key}", setting(f"vit.{key}", value), key)

for place, value in (
    *(("vit.embed_dim", value) for value in (10**9, 2**63, -24, 0, 1.5, "24", True, [24], {}, 25, 100_000)),
    *(("vit.depth", value) for value in (10**6, 90_000, -1, 0, "2")),
    *(("vit.num_heads", value) for value in (0, -2, 7, 10**9)),
    *(("vit.mlp_ratio", value) for value in (float("nan"), float("inf"), 1e300, -1.0, 0)),
    *(("head_channels", value) for value in ([], [0], [-8, 8], [10**12, 8], "88", 8, None, {}, [True, 8])),
    *(("search.size", value) for value in (100_000, 0, -96, "96", None, 95, 96.0)),
    *(("search.factor", value) for value in (0, -4.0, "4", None, 1e12)),
    *(("template.count", value) for value in (0, -1, 10**5, "1")),
    *(
        ("online", value)
        for value in (None, {}, [], "online", {"_target_": "trackers.crops.CropSpec", "size": 8, "factor": 1})
    ),
    *(("recipe", value) for value in (None, {}, 3)),
    *(("loss", value) for value in (None, {}, [], {"cells": "all"}, {"cells": [1]})),
    *(("elimination", value) for value in (3, {"_target_": "trackers.ostrack.elimination.Elimination"})),
    ("search.compat", "neither"),
    ("unknown", 1),
    ("search.unknown", 1),
    ("vit.unknown", 1),
):
    recipe(f"{place} = {value!r:.40}", setting(place, value))
recipe("without an argument", lambda r: r.pop("loss") and None, "loss")
recipe("of 10,000 levels", lambda r: json.dumps(r)[:-1] + ', "loss": ' + "[" * 10_000 + "]" * 10_000 + "}", "recipe")
recipe("of 10,000 mappings", lambda r: '{"a":' * 10_000 + "1" + "}" * 10_000, "recipe")
recipe("of 30 levels", setting("loss", json.loads("[" * 30 + "]" * 30)), "nested")
recipe("with a key given twice", lambda r: json.dumps(r)[:-1] + ', "backbone": "vit_tiny_patch16_224"}', "twice")
recipe("with a number beyond floats", lambda r: json.dumps(r)[:-1] + ', "x": 1e400}', "tracker.x")
recipe("with a number of 400 digits", setting("recipe.lr", 10**400), "tracker.recipe.lr=1000")
recipe("with a number of 5,000 digits", lambda r: json.dumps(r)[:-1] + ', "x": ' + "9" * 5_000 + "}", "recipe")
for text in ("", "[]", "null", "3", '"text"', "{", "{'a': 1}", "nan", "\ufeff{}"):
    recipe(f"text {text!r}", lambda r, text=text: text or " ", "recipe")


# Plans, metrics and configurations


def fields(name: str, words: str, **changes: Any) -> None:
    def make(path: Path, honest: Honest) -> None:
        header = {key: value for key, value in honest.header.items() if changes.get(key, "") is not None}
        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in changes.items()
            if value is not None
        }
        save_file(honest.weights, path, header | texts)

    entry(name, make, words)


for field in ("recipe", "plan", "metrics", "config", "format"):
    fields(f"no {field}", field, **{field: None})
for field in ("plan", "metrics", "config"):
    for text in ("[]", "null", "3", '"a"', "{", "[" * 10_000 + "]" * 10_000, '{"a": 1, "a": 2}'):
        fields(f"{field} of text {text[:20]}", field, **{field: text})
MLP = "backbone.blocks.0.mlp"
for units in (
    *([-1], [0, 10**6], [2**70], [True, False], ["0"], "012", None, 3, {"a": 1}, [[0]], [1.0], [1, 0], [0, 0], [None]),
    ["${oc.env:HOME}"],
):
    fields(f"plan of units {units!r:.40}", "plan", plan={MLP: units})
fields("plan of an unknown group", "nowhere", plan={"nowhere": [0]})
fields("plan of a group that is an interpolation", "plan", plan={RESOLVED: [0]})
fields("plan that empties the width", "width", plan={"width": []})
fields("plan of other weights", "shape of", plan={MLP: [0, 1]})
fields("plan with NaN", "plan", plan='{"a": [NaN]}')
fields("another format", "no recipe of", format="light-weight-trackers/99")
fields("a format that spoils the screen", "no recipe of", format="\x1b[2J" * 5_000)


# Weights


def weights(name: str, words: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
    def make(path: Path, honest: Honest) -> None:
        changed = dict(honest.weights)
        save_file(change(changed) or changed, path, honest.header)

    entry(f"weights {name}", make, words)


NORM = "backbone.norm.weight"


def spoilt(value: float) -> Callable[[dict[str, Tensor]], None]:
    return lambda w: w.update({NORM: torch.full_like(w[NORM], value)})


def cast(dtype: torch.dtype) -> Callable[[dict[str, Tensor]], None]:
    return lambda w: w.update({NORM: w[NORM].to(dtype)})


for value in (float("nan"), float("inf"), float("-inf")):
    weights(f"of {value}", f"NaN or infinite values in {NORM}", spoilt(value))
weights("that overflow", NORM, lambda w: w.update({NORM: torch.full((24,), 1e300, dtype=torch.float64)}))
for dtype in (
    *(torch.int8, torch.uint8, torch.int16, torch.int64, torch.bool, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
):
    weights(f"of {dtype}", f"type of {NORM}", cast(dtype))
weights("without one", f"missing: {NORM}", lambda w: w.pop(NORM) is None and None)
weights("with one more", "unexpected: more", lambda w: w.update(more=torch.ones(1)))
weights("with one more of a long name", "unexpected: mmm", lambda w: w.update({"m" * 10**6: torch.ones(1)}))
weights("with one more that spoils the screen", r"unexpected: '\x1b", lambda w: w.update({"\x1b[2J": torch.ones(1)}))
weights("of another shape", f"shape of {NORM}", lambda w: w.update({NORM: torch.ones(25)}))
weights("of another rank", f"shape of {NORM}", lambda w: w.update({NORM: torch.ones(24, 1)}))
weights("without entries", f"shape of {NORM}", lambda w: w.update({NORM: torch.ones(0)}))
weights("scalar", f"shape of {NORM}", lambda w: w.update({NORM: torch.tensor(1.0)}))
weights("none at all", "missing", lambda w: {"a": torch.ones(1)})
weights(
    "counts of another type", "num_batches", lambda w: w.update({n: v.float() for n, v in w.items() if "num_b" in n})
)


# The format of safetensors


def raw(name: str, header: str | bytes, data: bytes = b"", length: int | None = None, words: str = "") -> None:
    content = header.encode() if isinstance(header, str) else header
    start = (len(content) if length is None else length).to_bytes(8, "little")
    entry(f"safetensors {name}", lambda path, _: path.write_bytes(start + content + data) and None, words)


def tensor(shape: list[Any], start: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SIXTEEN = bytes(16)
for name, tensors in {
    "of 2^60 entries": {"a": tensor([2**60], 0, 16)},
    "of 2^60 entries at their place": {"a": tensor([2**60], 0, 2**62)},
    "of 2^70 entries": {"a": tensor([2**70], 0, 16)},
    "whose shape overflows": {"a": tensor([2**32, 2**32], 0, 16)},
    "of a negative shape": {"a": tensor([-4], 0, 16)},
    "of a broken shape": {"a": tensor([1.5], 0, 16)},
    "of an unknown type": {"a": tensor([4], 0, 16, "F33")},
    "of no type": {"a": tensor([4], 0, 16, None)},
    "with negative offsets": {"a": tensor([4], -16, 0)},
    "with turned offsets": {"a": tensor([4], 16, 0)},
    "that overlap": {"a": tensor([4], 0, 16), "b": tensor([2], 8, 16)},
    "with a hole": {"a": tensor([1], 0, 4), "b": tensor([1], 12, 16)},
    "beyond the end": {"a": tensor([8], 0, 32)},
    "short of the end": {"a": tensor([2], 0, 8)},
    "without a description": {"a": {}},
    "that is a text": {"a": "tensor"},
    "with metadata of numbers": {"__metadata__": {"format": 1}},
    "with metadata of lists": {"__metadata__": []},
}.items():
    raw(f"tensor {name}", json.dumps(tensors), SIXTEEN)
raw("of 10,000 levels", '{"a":' * 10_000 + "1" + "}" * 10_000)
raw("of 10,000 lists", '{"a":' + "[" * 10_000 + "]" * 10_000 + "}")
raw("of a header that claims 2^63 bytes", "{}", length=2**63)
raw("of a header that claims 2 GB", "{}", length=2**31)
raw("of a header longer than the file", "{}" + " " * 50, length=1_000)
raw("of 9 MB of spaces", "{}" + " " * (9 * 2**20), SIXTEEN, words="header of")
raw("of no tensors", "{}", words="no recipe")
raw("of no JSON", "{" + "\x00" * 30, SIXTEEN)
raw("of no UTF-8", b'{"\xff\xfe":1}', SIXTEEN)
raw("of two tables", '{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}}')
raw("of a list", "[1, 2]", SIXTEEN)
raw("of NaN", '{"a": NaN}', SIXTEEN)


def sparse(path: Path, _: Honest) -> None:
    with path.open("wb") as file:  # three GB of nothing
        file.write((2**31).to_bytes(8, "little") + b"{")
        os.truncate(path, 3 * 2**30)


entry("safetensors sparse with a header of 2 GB", sparse, "header of 2,147,483,648 bytes")


def cut(length: int | float) -> Make:
    def make(path: Path, honest: Honest) -> None:
        save_file(honest.weights, path, honest.header)
        path.write_bytes(path.read_bytes()[: length if isinstance(length, int) else int(length * path.stat().st_size)])

    return make


for length in (0, 1, 8, 9, 100, 3_000, 0.3, 0.9, 0.9999):
    entry(f"safetensors cut at {length}", cut(length))


def longer(path: Path, honest: Honest) -> None:
    save_file(honest.weights, path, honest.header)
    path.write_bytes(path.read_bytes() + b"more")


entry("safetensors with more at the end", longer)


# Pickles


def zipped(pickled: bytes, records: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            **(records or {}),
        }.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def legacy(pickled: bytes, keys: Any = (), storages: bytes = b"") -> bytes:
    about = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
    return b"".join(pickle.dumps(part, 2) for part in about) + pickled + pickle.dumps(list(keys), 2) + storages


def content(name: str, data: bytes, words: str = "") -> None:
    entry(f"pickle {name}", lambda path, _: path.write_bytes(data) and None, words)


def both(name: str, pickled: bytes, words: str = "") -> None:
    content(f"{name}, zip", zipped(pickled, {"data/0": SIXTEEN}), words)
    content(f"{name}, legacy", legacy(pickled), words)


both("that runs a command", f"cposix\nsystem\n(V{TOUCH}\ntR.".encode(), "posix.system")
both("that evaluates", f"cbuiltins\neval\n(Vopen('{CANARY}', 'w')\ntR.".encode(), "builtins.eval")
both("that runs by inst", f"(V{TOUCH}\niposix\nsystem\n.".encode(), "posix.system")
both("that runs by obj", f"(cos\nsystem\nV{TOUCH}\no.".encode(), "system")
both("that runs by newobj", f"cos\nsystem\n(V{TOUCH}\nt\x81.".encode("latin1"), "system")
both("that runs by build", f"cos\nsystem\n}}V{TOUCH}\nK\x01sb.".encode(), "system")
both("that changes a type", b"cbuiltins\nset\n}Va\nK\x01sb.", "a change of set")
both("of an extension", b"\x80\x02\x82\x01.", "extension")
both("of a persistent object", b"(Vmodule\nclib\nNet\nVfile\nVsource\ntQ.", "persistent")
both("of a persistent text", b"Ptext\n.")
both("of a range in a list", b"cbuiltins\nlist\n(cbuiltins\nrange\n(I0\nL1000000000000L\ntRtR.", "list")
for kind in ("set", "frozenset", "bytes", "bytearray"):
    both(f"of a range in {kind}", f"cbuiltins\n{kind}\n(cbuiltins\nrange\n(I0\nL1000000000000L\ntRtR.".encode())
both("of a range in torch.Size", b"ctorch\nSize\n(cbuiltins\nrange\n(I0\nL1000000000000L\ntRtR.")
both("of a range in a new tuple", b"cbuiltins\ntuple\n(cbuiltins\nrange\n(I0\nL1000000000000L\ntRt\x81.", "tuple")
both("of a range in a new frozenset", b"cbuiltins\nfrozenset\n(cbuiltins\nrange\n(I0\nL1000000000000L\ntRt\x81.")
both("of an endless range", b"cbuiltins\nset\n(cbuiltins\nrange\n(I0\nL" + b"9" * 40 + b"L\ntRtR.")
for kind in ("bytes", "bytearray"):
    both(f"of 10^12 {kind}", f"cbuiltins\n{kind}\n(L1000000000000L\ntR.".encode())
    both(f"of 10^12 new {kind}", f"cbuiltins\n{kind}\n(L1000000000000L\nt\x81.".encode("latin1"))
both("of a call with keywords", b"\x80\x04cbuiltins\nbytes\n)}Vsource\nL1000000000000L\ns\x92.", "keywords")
# Each level holds the level below twice, so the whole has 2^60 parts.
LAUGHS = b"K\x01p0\n0" + b"".join(b"(" + b"g%d\n" % i * 2 + b"tp%d\n0" % (i + 1) for i in range(60)) + b"g60\n"
both("of a key of 2^60 tuples", b"}" + LAUGHS + b"K\x01s.", "nested tuples")
both("of keys of 2^60 tuples", b"}(" + LAUGHS + b"K\x01u.", "nested tuples")
both("of a mapping of 2^60 tuples", b"(" + LAUGHS + b"K\x01d.", "nested tuples")
both("of a set of 2^60 tuples", b"\x80\x04\x8f(" + LAUGHS + b"\x90.", "nested tuples")
both("of a frozen set of 2^60 tuples", b"\x80\x04(" + LAUGHS + b"\x91.", "nested tuples")
both("of a called set of 2^60 tuples", b"cbuiltins\nset\n((" + LAUGHS + b"ltR.", "nested tuples")
both("of a text of 2^60 lists", b"cbuiltins\nstr\n(" + LAUGHS + b"tR.", "str")
both("of 2^60 lists", b"}Vnet\n" + LAUGHS.replace(b"t", b"l") + b"s.", "no known tracker")
both("of a persistent object of 2^60 lists", LAUGHS.replace(b"t", b"l") + b"Q.", "persistent")
both("of a change of 2^60 lists", LAUGHS.replace(b"t", b"l") + b"}Va\nK\x01sb.", "a change of")
both("of 50,000 levels", b"(" * 50_000 + b"l" * 50_000 + b".", "no known tracker")
both("of 3,000 classes", b"(" + b"".join(b"clib\nA%d\n" % i for i in range(3_000)) + b"l.", "more than 1,000 classes")
both("of a class with a long name", b"cos\n" + b"a" * 10**6 + b"\n.", "os.aaa")
both("of a text that claims 2^50 bytes", b"\x80\x04\x8d" + (2**50).to_bytes(8, "little") + b"a.")
both("of bytes that claim 2^50", b"\x80\x04\x8e" + (2**50).to_bytes(8, "little") + b"a.")
both("of a bytearray that claims 2^50", b"\x80\x05\x96" + (2**50).to_bytes(8, "little") + b"a.")
both("of a frame that claims 2^50", b"\x80\x04\x95" + (2**50).to_bytes(8, "little") + b"N.")
both("of a number that claims 2^31 bytes", b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"a.")
both("of a number of 10^6 digits", b"L" + b"9" * 10**6 + b"L\n.")
both("of another process's buffers", b"\x80\x05\x97.")
both("of protocol 99", b"\x80\x63N.")
both("of a missing memo", b"h\x07.")
both("of an empty stack", b"0R.")
both("of nothing", b"")
both("without an end", b"}Va\n")


def storage(count: str = "K\x04", kind: str = "ctorch\nFloatStorage\n", key: str = "0") -> bytes:
    return f"((Vstorage\n{kind}V{key}\nVcpu\n{count}NtQ".encode() if count[-1:] != "." else b""


def rebuilt(stored: bytes, rest: str) -> bytes:
    return b"}Vnet\n}Va\nctorch._utils\n_rebuild_tensor_v2\n" + stored + f"{rest}tRss.".encode()


def saved(count: str, key: str = "0", kind: str = "ctorch\nFloatStorage\n") -> tuple[bytes, bytes]:
    """Returns the persistent object of a storage, in the zip format and in the older one."""
    opened = f"((Vstorage\n{kind}V{key}\nVcpu\n{count}"
    return f"{opened}tQ".encode(), f"{opened}NtQ".encode()


def tensors(name: str, count: str, rest: str, key: str = "0", kind: str = "ctorch\nFloatStorage\n") -> None:
    of_zip, of_legacy = (rebuilt(stored, rest) for stored in saved(count, key, kind))
    content(f"of a tensor {name}, zip", zipped(of_zip, {"data/0": SIXTEEN}))
    content(f"of a tensor {name}, legacy", legacy(of_legacy, [key], (4).to_bytes(8, "little") + SIXTEEN))


FLAGS = "I00\nccollections\nOrderedDict\n)R"
tensors("that is no tracker", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of 2^60 entries", "I4\n", f"I0\n(L{2**60}L\nt(I1\nt" + FLAGS)
tensors("of 2^60 equal entries", "I4\n", f"I0\n(L{2**60}L\nt(I0\nt" + FLAGS)
tensors("of 2^80 entries", "I4\n", f"I0\n(L{2**40}L\nL{2**40}L\nt(I0\nI0\nt" + FLAGS)
tensors("beyond its storage", "I4\n", "I2\n(I4\nt(I1\nt" + FLAGS)
tensors("before its storage", "I4\n", "I-2\n(I4\nt(I1\nt" + FLAGS)
tensors("of negative size", "I4\n", "I0\n(I-4\nt(I1\nt" + FLAGS)
tensors("of negative stride", "I4\n", "I3\n(I4\nt(I-1\nt" + FLAGS)
tensors("of a huge stride", "I4\n", f"I0\n(I2\nt(L{2**62}L\nt" + FLAGS)
tensors("of a huge offset", "I4\n", f"L{2**62}L\n(I1\nt(I1\nt" + FLAGS)
tensors("of texts", "I4\n", "Va\n(Vb\nt(Vc\nt" + FLAGS)
tensors("of a storage of 2^40 entries", f"L{2**40}L\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of a storage of 2^70 entries", f"L{2**70}L\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of a storage of 5 entries", "I5\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of a storage of -4 entries", "I-4\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of a storage of true entries", "I01\n", "I0\n(I1\nt(I1\nt" + FLAGS)
tensors("of a storage of a text", "V4\n", "I0\n(I4\nt(I1\nt" + FLAGS)
tensors("of a storage of wider entries", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, kind="ctorch\nDoubleStorage\n")
tensors("of a storage of no type", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, kind="N")
tensors("of native memory", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, kind="ctorch.storage\nUntypedStorage\n")
tensors("of a foreign storage", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, kind="clib\nStorage\n")
tensors("of another record", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, key="../data.pkl")
tensors("of a missing record", "I4\n", "I0\n(I4\nt(I1\nt" + FLAGS, key="7/7")
HONEST_TENSOR, HONEST_LEGACY = (rebuilt(stored, "I0\n(I4\nt(I1\nt" + FLAGS) for stored in saved("I4\n"))
content("of no storages", legacy(HONEST_LEGACY), "storages")
content("of a cut storage", legacy(HONEST_LEGACY, ["0"], (4).to_bytes(8, "little") + b"abc"), "cut")
content("of a storage of another size", legacy(HONEST_LEGACY, ["0"], (2**60).to_bytes(8, "little") + SIXTEEN), "size")
content("of keys that are numbers", legacy(HONEST_LEGACY, [0]), "storages")
content("of big-endian numbers", zipped(HONEST_TENSOR, {"data/0": SIXTEEN, "byteorder": b"big"}), "order")
content("of a bare command", f"cposix\nsystem\n(V{TOUCH}\ntR.".encode(), "posix.system")
content("of a bare list", b"(l.", "magic number")


def archive(name: str, words: str, *records: tuple[str, bytes, int]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for record, data, compression in records:
            file.writestr(record, data, compression)
    content(f"in a zip {name}", buffer.getvalue(), words)


S, D = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
RECORD, DATA = ("a/data.pkl", HONEST_TENSOR, S), ("a/data/0", SIXTEEN, S)
archive("with a compressed pickle", "compressed", ("a/data.pkl", bytes(2**24), D), DATA)
archive("with a compressed storage", "compressed", RECORD, ("a/data/0", bytes(2**26), D))
archive(
    "that leaves its folder", "no known tracker", RECORD, DATA, ("../../../tmp/canary", b"", S), ("/canary", b"", S)
)
archive("without a pickle", "data.pkl", DATA)
archive("of nothing", "")
archive("with another pickle", "data.pkl", ("a/b/data.pkl", HONEST_TENSOR, S), DATA)
archive("of TorchScript", "TorchScript", RECORD, DATA, ("a/constants.pkl", b"N.", S))
archive("in a zip", "no known tracker", RECORD, DATA, ("a/data/1", zipped(HONEST_TENSOR), S))
archive("with two pickles", "twice", RECORD, DATA, ("b/data.pkl", b"N.", S))


def overlapping() -> bytes:
    """Returns an archive whose entries claim the same bytes: the directory names one local entry again and again."""
    data = bytearray(zipped(HONEST_TENSOR, {f"data/{i}": bytes(2_000) for i in range(40)}))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        position, first = file.start_dir, file.getinfo("archive/data/0").header_offset
    while data[position : position + 4] == b"PK\x01\x02":
        lengths = [int.from_bytes(data[position + at : position + at + 2], "little") for at in (28, 30, 32)]
        data[position + 42 : position + 46] = first.to_bytes(4, "little")
        for at in (20, 24):
            data[position + at : position + at + 4] = (60_000).to_bytes(4, "little")
        position += 46 + sum(lengths)
    return bytes(data)


content("in a zip of overlapping entries", overlapping(), "overlap")
content("in a zip that is cut", zipped(HONEST_TENSOR, {"data/0": SIXTEEN})[:-30])
content(
    "in a zip with a damaged storage",
    zipped(HONEST_TENSOR, {"data/0": b"0123456789abcdef"}).replace(b"0123", b"3210", 1),
)
content("of text", b"<html>404 not found</html>" * 100)
content("of zeros", bytes(10_000))
content("of random bytes", bytes(torch.randint(256, (10_000,), generator=torch.Generator().manual_seed(0)).tolist()))
content("of one kind of byte", b"(" * 10_000)
content("of a tar archive", bytes(257) + b"ustar" + bytes(10_000), "tar archive")


# Official files


def official(name: str, net: Any, words: str = "") -> None:
    def make(path: Path, _: Honest) -> None:
        torch.save(net, path)

    entry(f"official {name}", make, words)


ONE = torch.ones(1)
OSTRACK = {
    "backbone.patch_embed.proj.weight": torch.ones(64, 3, 16, 16),
    "backbone.pos_embed_z": torch.ones(1, 4, 64),
    "backbone.pos_embed_x": torch.ones(1, 16, 64),
    "backbone.blocks.0.attn.qkv.weight": torch.ones(192, 64),
    "backbone.blocks.0.mlp.fc1.weight": torch.ones(64, 64),
    "box_head.conv1_ctr.0.weight": torch.ones(8, 64, 3, 3),
}
official("OSTrack with most weights missing", {"net": OSTRACK}, "missing")
for key in ("backbone.patch_embed.proj.weight", "backbone.pos_embed_z", "box_head.conv1_ctr.0.weight"):
    official(f"OSTrack with a scalar {key}", {"net": OSTRACK | {key: torch.tensor(1.0)}}, "other shapes")
official("OSTrack without width", {"net": OSTRACK | {"backbone.patch_embed.proj.weight": torch.ones(0, 3, 16, 16)}})
official(
    "OSTrack with a huge patch", {"net": OSTRACK | {"backbone.patch_embed.proj.weight": torch.ones(64, 3, 999, 1)}}
)
official("OSTrack with odd gates", {"net": OSTRACK | {"backbone.blocks.0.attn.zeta": torch.ones(3)}}, "other shapes")
official("OSTrack with complex gates", {"net": OSTRACK | {"a.zeta": torch.ones(3, dtype=torch.complex64)}})
official("OSTrack with settings of its own", {"net": OSTRACK, "settings": {"config_name": RESOLVED}}, "missing")
official("OSTrack with an actor that is an interpolation", {"net": OSTRACK, "actor_type": RESOLVED}, "missing")
STARK = {"query_embed.weight": ONE, "box_head.conv1_tl.0.weight": ONE, "backbone.0.body.conv1.weight": ONE}
DIMP = {"classifier.filter_initializer.filter_conv.weight": ONE, "bb_regressor.iou_predictor.weight": ONE}
official("STARK of scalars", {"net": STARK}, "other shapes")
official("DiMP of scalars", {"net": DIMP}, "missing")
official("MAE, which is no tracker", {"model": {"patch_embed.proj.weight": ONE}}, "no tracker")
official("a ResNet, which is no tracker", {"layer1.0.conv1.weight": ONE}, "no tracker")
for name, net in {
    "a list": [ONE],
    "a tensor": ONE,
    "nothing": None,
    "a number": 3,
    "numbers as names": {"net": {1: ONE, None: ONE}},
    "weights that are lists": {"net": {name: [1.0] for name in OSTRACK}},
    "a net of lists": {"net": [ONE]},
    "names of 10^6 letters": {"net": {"n" * 10**6: ONE}},
}.items():
    official(name, net, "no known tracker")
