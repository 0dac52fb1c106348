"""Gradients of gates do not depend on the scale by which 16-mixed precision multiplies the loss."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from pruning.gates import Gates
from tests.pruning.training import METHODS, fit, loader, pruning

pytestmark = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*", "ignore:.*LeafSpec.*")

FROZEN = {"nothing": (), "some": ("embed.weight", "fc2.weight"), "most": ("embed.weight", "embed.bias", "fc2.weight")}


class ScaleAlone(MixedPrecision):
    """A loss scaler without half precision, so that nothing but the scale differs."""

    def autocast_context_manager(self) -> nullcontext:
        return nullcontext()


def gate_gradients(method: str, frozen: tuple[str, ...], scale: float | None, held: bool, folder: Path) -> list[Tensor]:
    """Returns the gradients of the gates in each step.

    Args:
        method: the pruning method.
        frozen: parameters that are not trained.
        scale: of the loss; None trains without a scaler.
        held: whether the optimizer holds the frozen parameters, too.
        folder: of the trainer.
    """
    noted: list[Tensor] = []
    base = METHODS[method].module

    class Noting(type(METHODS[method].criterion())):
        def after_step(self, gates: Gates) -> None:
            noted.append(gates.values.grad.clone())
            super().after_step(gates)

    class Module(base):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            trained = [p for p in self.network.parameters() if held or p.requires_grad]
            return torch.optim.SGD(trained, lr=1e-3)

    module = Module(dtype=torch.float32)
    for name in frozen:
        module.network.get_parameter(name).requires_grad_(False)
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    plugins = [] if scaler is None else [ScaleAlone("16-mixed", "cpu", scaler)]
    callback = pruning(method, criterion=Noting(), ratio=0.8)
    fit(module, [callback], loader(dtype=torch.float32), folder, plugins=plugins, max_epochs=1)
    return noted


@pytest.mark.parametrize("held", [False, True], ids=["trained alone", "all held"])
@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("method", ["taylor", "fisher", "slim"])
def test_gate_gradients_are_those_without_a_scaler(method, frozen, held, tmp_path):
    plain = gate_gradients(method, FROZEN[frozen], None, held, tmp_path)
    assert len(plain) == 6
    for scale in (1024.0, 65536.0):
        scaled = gate_gradients(method, FROZEN[frozen], scale, held, tmp_path)
        torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-6)
