import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pruning import Group, Plan, PruningError, Slice, compact, load_pruned, save_pruned
from pruning.groups.data import from_data, to_data
from pruning.saving.models import build_model
from pruning.saving.state_dicts import load_tensors, read_tensors, unique_tensors


class Tied(nn.Module):
    """Two linear layers; the output layer has the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mlp = nn.Embedding(5, 6), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.out = nn.Linear(6, 5, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.mlp(self.embed(x)))


GROUPS = [
    Group("hidden", "mlp", 8, (Slice("mlp.0.weight", 0), Slice("mlp.0.bias", 0), Slice("mlp.2.weight", 1, gated=True)))
]
PLAN = Plan({"hidden": (0, 3, 7)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = compact(Tied(), GROUPS, PLAN)
    return save_pruned(tmp_path / "child", network, GROUPS, PLAN)


def test_a_child_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    network, x = compact(Tied(), GROUPS, PLAN), torch.arange(5)
    folder = save_pruned(tmp_path, network, GROUPS, PLAN)
    again = load_pruned(folder, Tied())
    assert torch.equal(again(x), network(x))
    assert again.out.weight is again.embed.weight
    assert again.mlp[0].out_features == 3


def test_a_part_of_the_network_that_was_pruned_is_not_saved(tmp_path: Path) -> None:
    network = compact(Tied(), GROUPS, PLAN)
    with pytest.raises(PruningError, match=r"this Sequential is not the network that was pruned.*'mlp\.0\.weight'"):
        save_pruned(tmp_path, network.mlp, GROUPS, PLAN)


def test_timm_models_are_built_by_name(tmp_path: Path) -> None:
    network = build_model("test_vit")
    folder = save_pruned(tmp_path, network, [], Plan(), "test_vit")
    x = torch.randn(1, 3, 160, 160)
    assert torch.equal(load_pruned(folder)(x), network(x))


def test_groups_survive_as_data() -> None:
    group = Group(
        "g",
        "attention",
        2,
        (Slice("a", 1, table=((0, 2), (1, 3)), gated=True, rescaled=True), Slice("b", 0, offsets=(0, 4), inner=2)),
        norms=("norm",),
        vanish=(),
        owner="attn",
        branch="b",
        runs=(1, 1),
        attributes=(("attn.num_heads", 1),),
    )
    assert from_data(json.loads(json.dumps(to_data(group)))) == group
    assert set(to_data(GROUPS[0])) == {"name", "kind", "size", "slices"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has the format 2; this version reads 1"),
        ({"model": None}, "'model' must be a str"),
        ({"plan": {"hidden": [0, 9]}}, "distinct ascending units below 8"),
        ({"plan": {"hidden": [0, "1"]}}, "must list whole numbers"),
        ({"plan": {"other": [0]}}, "the network has the groups"),
        ({"groups": [3]}, "a Group must be a mapping"),
        ({"groups": [{"name": "hidden", "kind": "mlp", "size": 8}]}, "a Group lacks 'slices'"),
        ({"groups": [{"name": "hidden", "kind": "mlp", "size": 8, "slices": [], "run": 1}]}, "no attribute 'run'"),
        ({"size": 10**15}, "reaches entry 1000000000000000"),
        ({"size": -3}, "size"),
        ({"owner": 3}, "owner of a Group must be a name"),
        ({"owner": "mlp.9"}, "names the module 'mlp.9'"),
        ({"attributes": [["mlp.0.in_features.__class__", 1]]}, "must be a whole number"),
        ({"plan": {"hidden": [0, 1]}}, "tensors differ in shape, e.g. 'mlp.0.bias'|'mlp.0.weight'"),
    ],
    ids=str,
)
def test_a_recipe_that_does_not_fit_is_refused(change: dict[str, Any], message: str, folder: Path) -> None:
    recipe = json.loads((folder / "pruned.json").read_text())
    for key, value in change.items():
        (recipe if key in recipe else recipe["groups"][0])[key] = value
    (folder / "pruned.json").write_text(json.dumps(recipe))
    with pytest.raises(PruningError, match=message):
        load_pruned(folder, Tied())


def test_files_that_are_no_recipe_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("{", "[" * 100_000, "[]", "3"):
        (folder / "pruned.json").write_text(text)
        with pytest.raises(PruningError, match=r"pruned\.json"):
            load_pruned(folder, Tied())
    monkeypatch.setattr("pruning.saving.saved.MAX_BYTES", 0)
    with pytest.raises(PruningError, match="more than any recipe"):
        load_pruned(folder, Tied())
    with pytest.raises(PruningError, match="there is no file"):
        load_pruned(folder / "none")


@pytest.mark.parametrize("model", ["os:getcwd", "", "hf-hub:somebody/model", "torchvision:none", "local-dir:x"])
def test_a_file_names_no_function_to_call(model: str, folder: Path) -> None:
    recipe = json.loads((folder / "pruned.json").read_text())
    (folder / "pruned.json").write_text(json.dumps(recipe | {"model": model}))
    with pytest.raises(PruningError, match="has no model" if model.startswith("torchv") else "give the uncut network"):
        load_pruned(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PruningError, match="choose another folder"):
        save_pruned(tmp_path / "file", Tied(), [], Plan())


# Weights


class Evil:
    """Object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("touched"),)


def test_no_code_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, "weights.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Evil()))
    for path in (Path("weights.pt"), Path("plain.pt")):
        with pytest.raises(PruningError, match="read safely"):
            read_tensors(path)
    assert not Path("touched").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_state_dicts_are_loaded_with_any_name_of_a_tied_weight(suffix: str, tmp_path: Path) -> None:
    network, path = Tied(), tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(network.state_dict(), path)
    else:
        save_file({n: t for n, t in network.state_dict().items() if n != "embed.weight"}, path)
    other = Tied()
    load_tensors(other, read_tensors(path), path)
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in network.state_dict().items())


def test_weights_that_do_not_fit_the_network_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    for changed, message in (
        ({n: t for n, t in weights.items() if n != "mlp.0.bias"}, r"1 tensors are missing \['mlp.0.bias'\]"),
        (weights | {"other": torch.ones(1)}, r"1 are unknown \['other'\]"),
        (weights | {"mlp.0.bias": torch.ones(4)}, r"'mlp.0.bias' \(4,\), here \(3,\)"),
    ):
        save_file(changed, folder / "weights.safetensors")
        with pytest.raises(PruningError, match=message):
            load_pruned(folder, Tied())
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(PruningError, match="must hold tensors by name, not a list"):
        read_tensors(tmp_path / "list.pt")
    assert list(unique_tensors(Tied()))[:1] == ["embed.weight"]
