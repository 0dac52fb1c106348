import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pruning import load_pruned
from pruning.command_line.main import main

MODULE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.a, self.b, self.head = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1), nn.Linear(8, 4)

    def forward(self, image):
        x = self.norm(self.stem(image)).relu()
        return self.head((x + self.b(self.a(x).relu())).mean((2, 3)))

class whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, image):
        return self.b(self.a(image).cumsum(-1))

def zeros():
    net = Net()
    nn.init.zeros_(net.head.weight)
    return net

def words():
    return "a network"

number = 3
"""
CALL = ("my_net:Net", "--ratio", "0.5", "--input", "1,3,8,8")


@pytest.fixture
def my_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """The class in `my_net.py` of the current folder."""
    (tmp_path / "my_net.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    namespace: dict = {}
    exec(MODULE, namespace)
    yield namespace["Net"]
    sys.modules.pop("my_net", None)


def test_help_and_wrong_words_import_no_torch() -> None:
    code = "import sys; from pruning.command_line.main import main\n"
    code += "try: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    for words, status, text in ((["--help"], 0, "module:function"), ([], 2, "e.g. python -m pruning resnet18 --ratio")):
        result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert result.returncode == status
        assert result.stdout.endswith("False\n")
        assert text in result.stdout + result.stderr
        assert status == 0 or result.stderr.count("\n") == 1


@pytest.mark.parametrize("of", ["params", "macs", "units"])
def test_a_child_has_the_ratio_and_is_loaded_again(my_net: Callable, of: str, capsys: pytest.CaptureFixture) -> None:
    save_file({n: torch.randn(t.shape).abs().to(t) for n, t in my_net().state_dict().items()}, "w.safetensors")
    call = (*CALL, "--ratio-of", of, "--weights", "w.safetensors", "--output", "child", "--floor", "0.2")
    assert main(call) == 0
    text = capsys.readouterr().out
    for word in (
        "stem",
        "stream",
        "the network returns them: 4 units of head.weight, dim 0",
        "masked against cut",
        "%",
    ):
        assert word in text
    child, recipe = load_pruned("child", my_net()), json.loads(Path("child/pruned.json").read_text())
    assert recipe["input"] == [1, 3, 8, 8]
    assert recipe["model"] == "my_net:Net"
    parent_and_child = recipe["parent and child"]
    assert parent_and_child["parameters"][1] == sum(p.numel() for p in child.parameters())
    share = {"params": "parameters", "macs": "MACs"}.get(of)
    if share:
        assert 0.3 < parent_and_child[share][1] / parent_and_child[share][0] <= 0.5
    else:
        assert sum(map(len, recipe["plan"].values())) == 12
    assert child(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    assert not child.training


def test_protected_groups_keep_their_units_and_widths_are_rounded(
    my_net: Callable, capsys: pytest.CaptureFixture
) -> None:
    assert main((*CALL, "--ratio", "0.8", "--protect", "ste*", "--round-to", "4", "--criterion", "random")) == 0
    child = load_pruned("pruned/my_net_Net_0.8", my_net())
    assert child.stem.out_channels == 8
    assert child.a.out_channels == 8
    assert "protected" in capsys.readouterr().out


def test_a_comparison_that_says_nothing_is_no_proof(my_net: Callable, capsys: pytest.CaptureFixture) -> None:
    assert main(("my_net:zeros", *CALL[1:])) == 0
    assert "so the comparison says nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("my_net:Nett",), "did you mean my_net:Net?"),
        (("my_net.py:Net",), "write my_net:Net"),
        (("no_net:Net",), "it may be a file no_net.py in"),
        ((":Net",), "must name a function as package.module:function"),
        (("my_net:number",), "has no function 'number'"),
        (("my_net:words",), "must return a torch.nn.Module, not 'a network'"),
        (("--ratio", "1"), "e.g. --ratio 0.5"),
        (("--ratio", "2"), "must lie in (0, 1]"),
        (("--ratio", "0.001"), "the smallest is"),
        (("--input", "1,4,8,8"), "to have 3 channels, but got 4"),
        (("--weights", "none.pt"), "there is no file none.pt"),
        (("--weights", "my_net.py"), "no tensors that can be read safely"),
        (("--device", "abacus"), "e.g. --device cpu"),
        (("--output", "my_net.py"), "e.g. --output child"),
        (("--protect", "stm"), "--protect stm is no group; the groups are ["),
        (("--protect", "*"), "nothing is left to prune with --protect '*'; leave one of the"),
        (("--floor", "2"), "--floor 2.0 must lie in [0, 1]"),
        (("--round-to", "0"), "--round-to 0 must be a positive integer or auto"),
        (("--ratio", "0.001", "--round-to", "4"), "; round less (--round-to 1, now 4)"),
        (("my_net:whole",), "no group of units of my_net:whole can be cut: cumsum in the network: 8 units of a.weight"),
    ],
    ids=" ".join,
)
def test_errors_are_one_line(
    words: tuple[str, ...], message: str, my_net: Callable, capsys: pytest.CaptureFixture
) -> None:
    call = (*words, *CALL[1:]) if ":" in words[0] else (*CALL, *words)
    assert main(call) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert not re.search(r"\bpruning\.\w|\b(ratio|protect|floor|round_to)=", error), "no setting of another door"


def test_a_network_whose_import_fails_keeps_its_error(my_net: Callable) -> None:
    Path("broken_net.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        main(("broken_net:build", "--ratio", "0.5"))
