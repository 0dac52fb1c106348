import sys

import pytest
from torch import nn

from pruning.errors import PruningError
from pruning.saving.models import build_model, input_shape


def test_models_are_built_by_name() -> None:
    network = build_model("test_vit")
    assert not network.training
    assert input_shape(network) == (1, 3, 160, 160)
    assert build_model("torchvision:squeezenet1_1").classifier[1].out_channels == 1000
    assert input_shape(nn.Linear(3, 4)) == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_vitt", "timm has no model 'test_vitt'; did you mean test_vit"),
        ("hf-hub", "timm has no model 'hf-hub'"),
        ("torchvision:squeezenet1_2", "did you mean torchvision:squeezenet1_"),
        ("torchvision:", "e.g. torchvision:resnet18"),
    ],
)
def test_unknown_models_are_named(name: str, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        build_model(name)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PruningError, match="pip install timm"):
        build_model("test_vit")
