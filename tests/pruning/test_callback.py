import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pruning.callback import PruningCallback
from pruning.cost import ParamCost, UnitCost
from pruning.criteria import Criterion, Magnitude, NetworkSlimming, Slim
from pruning.gates import Gates
from pruning.groups import Group
from pruning.norms import MaskedLayerNorm
from pruning.plan import Plan
from pruning.schedules import Cubic, OneShot
from pruning.surgery import compact
from tests.pruning.networks import BranchNet, ConvNet, NormNet, compacted, shake

CRITERIA = {"slim": Slim, "magnitude": Magnitude, "network_slimming": NetworkSlimming}


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]


class MapNet(NormNet):
    """With outputs by name, as the callback compares them; the first one never depends on the input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"constant": self.out.bias.expand(2, 2), "out": super().forward(x)}


class Regressor(L.LightningModule):
    """Not a tracker: a network, groups and a loss."""

    def __init__(self, fail_at: int | None = None, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.network = shake(MapNet(width=12, hidden=16).to(dtype), 3)
        self.fail_at, self.seen = fail_at, []

    def groups(self) -> list[Group]:
        return self.network.groups()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = (self.network(batch[0])["out"] - batch[1]).square().mean()
        if self.global_step == self.fail_at:
            raise ArithmeticError("as told")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen.append(self.network(batch[0])["out"].detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=1e-2, weight_decay=0.05)


class ConvRegressor(Regressor):
    """The same with batch norms, which keep their statistics. A picture is made of 6 numbers."""

    class Network(ConvNet):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return super().forward(x.view(-1, 1, 2, 3).repeat(1, 3, 2, 2))

    def __init__(self) -> None:
        super().__init__()
        self.network = self.Network()
        self.network.fc2 = nn.Linear(7, 2)
        shake(self.network.double(), 3)

    def on_train_epoch_start(self) -> None:
        self.network.eval()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD((p for p in self.network.parameters() if p.requires_grad), lr=1e-2)


class Spy(L.Callback):
    """Calls a function in one hook. Callbacks run in their order: put before or after the one under test."""

    def __init__(self, hook: str, call: Callable[..., None]):
        setattr(self, hook, call)


def loader(batch: int = 4, batches: int = 6, dtype: torch.dtype = torch.float64) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch * batches, 6, generator=generator, dtype=torch.float64).to(dtype)
    return DataLoader(TensorDataset(x, x[:, :2].sin() + x[:, 2:4]), batch_size=batch)


def pruning(criterion: str = "slim", ratio: float = 0.4, **options: Any) -> PruningCallback:
    given: Criterion = CRITERIA[criterion]()
    defaults = {"every": 4, "penalty": {"default": 1e-2, "width": 1e-3}, "floor": 0.05}
    return PruningCallback(ratio, given, Cubic(start=0.1, end=0.7), **(defaults | options))


def attached(callback: PruningCallback) -> tuple[MapNet, PruningCallback]:
    """A network that is not trained, and its pruning."""
    network = shake(MapNet(width=12, hidden=16).double(), 3)
    callback.attach(network, network.groups())
    return network, callback


def draws(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(8, 6, dtype=torch.float64, generator=generator)} for _ in range(count)]


def fit(module: Regressor, callbacks: list[L.Callback], data: DataLoader, root: Path, **options: Any) -> None:
    """Trains quietly on CPU; `val` and `resume` are given to `Trainer.fit`, all else to the trainer."""
    val, resume = options.pop("val", None), options.pop("resume", None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    keeps = any(isinstance(c, ModelCheckpoint) for c in callbacks)
    settings = {"max_epochs": 4, "devices": 1, "num_sanity_val_steps": 0, "enable_checkpointing": keeps}
    trainer = L.Trainer(callbacks=callbacks, default_root_dir=root, **(quiet | settings | options))
    trainer.fit(module, data, val, ckpt_path=resume, **({"weights_only": True} if resume else {}))


def weights(module: Regressor) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.network.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def own_weights_spy(into: list[dict[str, Tensor]]) -> Spy:
    return Spy("on_train_batch_start", lambda trainer, module, *_: into.append(weights(module)))


@pytest.mark.parametrize(("criterion", "ratio_of"), [("slim", "params"), ("magnitude", "units")])
def test_the_stage_ends_at_the_asked_ratio(criterion: str, ratio_of: str, tmp_path: Path) -> None:
    module, callback = Regressor(), pruning(criterion, ratio_of=ratio_of)
    start = weights(module)
    fit(module, [callback], loader(), tmp_path)
    groups = module.groups()
    cost = ParamCost(module.network, groups) if ratio_of == "params" else UnitCost()
    kept = [len(callback.plan.units(g)) for g in groups]
    asked = 0.4 * cost([g.size for g in groups])
    assert cost(kept) <= asked
    assert all(
        cost([k + (i == j) for j, k in enumerate(kept)]) > asked for i, g in enumerate(groups) if kept[i] < g.size
    )
    assert not callback.gates.is_folded
    assert not any(isinstance(m, MaskedLayerNorm) for m in module.network.modules())
    assert not torch.equal(module.network.fc1.weight, start["fc1.weight"])
    learned = bool((callback.gates.values != 1).any())
    assert learned == (criterion == "slim")
    assert (callback.gates.values >= 0).all()

    x = next(iter(loader(batch=16)))[0]
    report = callback.finish(module.network, [{"x": x}])
    assert report["masked_vs_compacted"] < 1e-12
    assert report["ratio_achieved"] == cost(kept) / cost([g.size for g in groups]) <= 0.4
    assert [g.size for g in module.groups()] == kept


def test_the_end_of_a_stage_is_an_update_of_the_mask(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude", ratio_of="units", every=1000)
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    assert sum(len(units) for units in callback.plan.kept.values()) == int(0.4 * 28)
    assert int(callback.gates.mask.sum()) == int(0.4 * 28)


def test_ratio_one_keeps_everything_and_trains_as_without_pruning(tmp_path: Path) -> None:
    plain, module, callback = Regressor(), Regressor(), pruning("magnitude", ratio=1.0)
    fit(plain, [], loader(), tmp_path)
    fit(module, [callback], loader(), tmp_path)
    assert callback.plan == Plan()
    assert callback.gates.mask.all()
    for name, w in weights(plain).items():
        torch.testing.assert_close(weights(module)[name], w, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_accumulating_two_batches_is_one_of_double_size(criterion: str, tmp_path: Path) -> None:
    results = []
    for batch, accumulate in ((8, 1), (4, 2)):
        module, callback = Regressor(), pruning(criterion)
        data = loader(batch, 6 * 8 // batch)
        fit(module, [callback], data, tmp_path, accumulate_grad_batches=accumulate, gradient_clip_val=0.5)
        results.append((callback.plan, callback.gates.values.detach(), weights(module)))
    (plan, gates, own), (plan2, gates2, own2) = results
    assert plan == plan2
    torch.testing.assert_close(gates2, gates, rtol=1e-7, atol=1e-7)
    for name, w in own.items():
        torch.testing.assert_close(own2[name], w, rtol=1e-6, atol=1e-7, msg=name)


def test_validation_sees_what_the_child_will_be(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning()
    val = loader(batch=8, batches=1)
    expected: list[Tensor] = []

    def child_output(trainer: L.Trainer, module: Regressor) -> None:
        child = copy.deepcopy(module.network)
        gates = Gates(child, module.groups())
        gates.close(callback.plan)
        gates.values.data.copy_(callback.gates.values.data)
        gates.bake()
        compact(child, module.groups(), callback.plan)
        expected.append(child(next(iter(val))[0])["out"])

    own: list[dict[str, Tensor]] = []
    before = Spy("on_validation_start", child_output)
    around = [
        Spy("on_validation_start", lambda trainer, module: own.append(weights(module))),
        Spy("on_validation_end", lambda trainer, module: assert_same(own[-1], weights(module))),
    ]
    fit(module, [before, around[0], callback, around[1]], loader(), tmp_path, val=val, num_sanity_val_steps=1)
    assert len(expected) == len(module.seen) == 5
    for out, seen in zip(expected, module.seen, strict=True):
        torch.testing.assert_close(seen, out, rtol=1e-10, atol=1e-10)
    assert len(callback.plan.units(module.groups()[0])) < 16


def test_validation_does_not_change_training(tmp_path: Path) -> None:
    results = []
    for options in ({}, {"val": loader(batch=8, batches=1), "val_check_interval": 1}):
        module = Regressor()
        fit(module, [pruning()], loader(), tmp_path, max_epochs=2, accumulate_grad_batches=2, **options)
        results.append(weights(module))
    assert len(module.seen) > 10  # also between accumulated batches, where gates are folded already
    assert_same(*results)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_exception_leaves_the_networks_own_weights(accumulate: int, tmp_path: Path) -> None:
    module, callback, own = Regressor(fail_at=5), pruning(), []
    with pytest.raises(ArithmeticError, match="as told"):
        fit(module, [own_weights_spy(own), callback], loader(), tmp_path, accumulate_grad_batches=accumulate)
    assert not callback.gates.is_folded
    assert_same(weights(module), own[-1])
    assert type(module.network.norm) is nn.LayerNorm


def test_a_checkpoint_between_accumulated_batches_holds_own_weights(tmp_path: Path) -> None:
    module, callback, own, saved = Regressor(), pruning(), [], []

    def save(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        if trainer.global_step == 7 and callback.gates.is_folded:
            assert not torch.equal(module.network.fc2.weight, own[-1]["fc2.weight"])  # or this test shows nothing
            trainer.save_checkpoint(tmp_path / "middle.ckpt")
            saved.append(own[-1])

    spies = [own_weights_spy(own), callback, Spy("on_train_batch_end", save)]
    fit(module, spies, loader(batches=8), tmp_path, accumulate_grad_batches=2)
    assert len(saved) == 1
    state = torch.load(tmp_path / "middle.ckpt", weights_only=True)["state_dict"]
    assert_same({k.removeprefix("network."): v for k, v in state.items()}, saved[0])


@pytest.mark.parametrize(
    ("criterion", "epoch", "build"),
    [
        ("slim", 0, Regressor),
        ("slim", 2, Regressor),
        ("magnitude", 1, Regressor),
        ("network_slimming", 1, ConvRegressor),
    ],
)
def test_a_resumed_run_ends_as_an_unbroken_one(
    criterion: str, epoch: int, build: type[Regressor], tmp_path: Path
) -> None:
    options = {} if build is Regressor else {"penalty": {"default": 1e-2}}
    module, callback = build(), pruning(criterion, **options)
    keeper = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=1)
    fit(module, [callback, keeper], loader(batches=5), tmp_path)

    again, resumed = build(), pruning(criterion, **options)
    shake(again.network, 99)
    checkpoint = tmp_path / f"epoch={epoch}.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 5 * (epoch + 1)
    fit(again, [resumed], loader(batches=5), tmp_path, resume=checkpoint)
    assert resumed.plan == callback.plan
    assert resumed.plan.kept
    assert torch.equal(resumed.gates.values, callback.gates.values)
    assert_same(weights(again), weights(module))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_bf16_mixed_runs_and_reaches_the_ratio(criterion: str, tmp_path: Path) -> None:
    module, callback = Regressor(dtype=torch.float32), pruning(criterion)
    fit(module, [callback], loader(dtype=torch.float32), tmp_path, precision="bf16-mixed")
    assert all(torch.isfinite(w).all() for w in weights(module).values())
    assert {w.dtype for w in weights(module).values()} == {torch.float32}
    report = callback.finish(module.network, [{"x": torch.randn(8, 6)}])
    assert report["masked_vs_compacted"] < 1e-5
    assert 0.3 < report["ratio_achieved"] <= 0.4


def test_the_mask_follows_the_schedule(tmp_path: Path) -> None:
    module, callback, sizes = Regressor(), pruning("magnitude", ratio_of="units"), []
    spy = Spy("on_train_batch_end", lambda trainer, *_: sizes.append((trainer.global_step, callback.gates.mask.mean())))
    fit(module, [callback, spy], loader(), tmp_path)
    total = 24
    for step, share in sizes:
        asked = callback.schedule((step - 1) // 4 * 4 / total, 0.4)
        assert asked - 1 / 28 < float(share) <= asked + 1e-6


def test_the_penalty_is_weighed_by_kind_and_drives_gates_down(tmp_path: Path) -> None:
    shares = {}
    for weight in (0.0, 10.0):
        module, callback = Regressor(), pruning(penalty={"default": 0.0, "hidden": weight}, gate_travel=0.5)
        fit(module, [callback], loader(), tmp_path)
        shares[weight] = {
            name: float(v.mean()) for name, v in callback.gates.split(callback.gates.values.detach()).items()
        }
        by_kind = callback.gates.split(callback.weights)
        assert (by_kind["hidden"] == weight).all()
        assert not by_kind["width"].any()
    # Adam walks at its rate, `gate_travel` over the stage, where the penalty rules.
    assert shares[10.0]["hidden"] == pytest.approx(0.5, abs=0.02)
    assert shares[0.0]["hidden"] > 0.6


def test_slimming_drives_scales_down_and_leaves_frozen_ones(tmp_path: Path) -> None:
    sizes = {}
    for weight in (0.0, 5.0):
        module = ConvRegressor()
        module.network.bn3.requires_grad_(False)
        start = weights(module)
        callback = pruning("network_slimming", 0.8, every=1000, penalty={"default": 0.0, "inner": weight})
        fit(module, [callback], loader(), tmp_path)
        assert torch.equal(module.network.bn3.weight, start["bn3.weight"])
        assert callback.gates.values.eq(1).all()
        sizes[weight] = {n: module.network.get_parameter(f"{n}.weight").abs().mean() for n in ("bn0", "bn1")}
        kept = callback.plan.units(next(g for g in module.groups() if g.name == "inner"))
        scales = callback.criterion(callback.gates)["inner"]
        assert min(scales[list(kept)]) > max([0.0, *(scales[u] for u in range(5) if u not in kept)])
        assert callback.finish(module.network, draws(1))["masked_vs_compacted"] < 1e-12
    # 24 steps of 0.05: those that began below 1.2 now oscillate around 0, and only the chosen kind is penalised.
    assert sizes[5.0]["bn1"] < 0.3 * sizes[0.0]["bn1"]
    assert sizes[5.0]["bn0"] > 0.8 * sizes[0.0]["bn0"]


def test_slimming_adds_its_penalty_once_a_step_to_the_scales_themselves(tmp_path: Path) -> None:
    module, gradients = ConvRegressor(), []
    callback = pruning("network_slimming", penalty={"default": 0.5}, every=1)

    def note(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        gradients.append((module.network.bn1.weight.detach().clone(), module.network.bn1.weight.grad.clone()))

    def silence(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        module.network.bn1.weight.grad.zero_()

    around = Spy("on_before_optimizer_step", silence), Spy("on_before_optimizer_step", note)
    fit(module, [around[0], callback, around[1]], loader(), tmp_path, accumulate_grad_batches=2)
    assert len(gradients) == 12
    assert all(torch.equal(gradient, 0.5 * scale.sign()) for scale, gradient in gradients)
    assert not callback.gates.split(callback.gates.mask)["inner"].all()  # also where gates were closed


def test_only_chosen_kinds_are_pruned(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude", ratio=0.8, kinds=["hidden"], penalty={})
    fit(module, [callback], loader(), tmp_path)
    assert set(callback.plan.kept) == {"hidden"}
    assert not any(isinstance(m, MaskedLayerNorm) for m in module.network.modules())


def test_wrong_settings_are_refused_before_training() -> None:
    network = MapNet()
    with pytest.raises(ValueError, match="ratio=25 must lie in"):
        pruning(ratio=25)
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        pruning(every=0)
    with pytest.raises(ValueError, match=r"ratio_of=flops is not known; choose one of \['params', 'units'\]"):
        pruning(ratio_of="flops")
    with pytest.raises(ValueError, match=r"kept_gates=half is not known; choose one of \['fold', 'one'\]"):
        pruning(kept_gates="half")
    for option in ({"kinds": ["hiddn"]}, {"penalty": {"hiddn": 1.0}}, {"scope": {"hiddn": "layer"}}):
        with pytest.raises(ValueError, match=rf"pruning.{next(iter(option))} names \['hiddn'\].*\['hidden', 'width'\]"):
            pruning(**option).check(network, network.groups())
    with pytest.raises(ValueError, match=r"pruning.kinds names \['attention'\]"):
        pruning(kinds=["attention"]).check(network, network.groups())
    elsewhere = pruning(penalty={"default": 1.0, "attention": 2.0}, scope={"default": "kind", "attention": "layer"})
    elsewhere.check(network, network.groups())  # what is said of a kind that only other networks have
    with pytest.raises(ValueError, match="out of reach"):
        pruning(ratio=0.01).check(network, network.groups())
    pruning(ratio=0.5).check(network, network.groups())


def test_a_stage_of_unknown_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        fit(Regressor(), [pruning()], loader(), tmp_path, max_epochs=-1, max_time="00:00:00:10")


def test_a_step_that_a_loss_scaler_skips_does_not_spoil_the_gates(tmp_path: Path) -> None:
    module, callback, gates = Regressor(), pruning(), []

    def overflow(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        if trainer.global_step == 3:
            module.network.fc2.weight.grad[0, 0] = torch.inf

    def skip(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        gates.append(callback.gates.values.detach().clone())
        if trainer.global_step == 3:
            module.zero_grad()

    around = Spy("on_before_optimizer_step", overflow), Spy("on_before_optimizer_step", skip)
    fit(module, [around[0], callback, around[1]], loader(), tmp_path)
    assert torch.equal(gates[3], gates[2])
    assert not torch.equal(gates[4], gates[3])
    assert gates[-1].isfinite().all()


class Forgetful(Regressor):
    """Gates the rows of fc1 but not their bias, so that the mask does not close its units."""

    def groups(self) -> list[Group]:
        hidden, width = super().groups()
        slices = tuple(replace(s, gated=s.path == "fc1.weight") for s in hidden.slices)
        return [replace(hidden, slices=slices), width]


def test_a_wrong_declaration_is_found_when_the_stage_is_finished(tmp_path: Path) -> None:
    module, callback = Forgetful(), pruning("magnitude")
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError, match=r"differs from the masked one by \d"):
        callback.finish(module.network, draws(5))


def test_outputs_that_are_not_finite_are_found_when_the_stage_is_finished(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude")
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError, match="differs from the masked one by nan"):
        callback.finish(module.network, [*draws(4), {"x": torch.full((8, 6), torch.nan, dtype=torch.float64)}])


class Choosy(MapNet):
    """Adds an error to its output in some calls, as a discrete choice that rounding flips."""

    def __init__(self, errors: dict[int, float]):
        super().__init__(width=12, hidden=16)
        self.errors, self.calls = errors, 0
        shake(self.double(), 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = super().forward(x)
        self.calls += 1
        return out | {"out": out["out"] + self.errors.get(self.calls - 1, 0.0)}


def test_a_flip_on_one_draw_passes_and_on_most_it_does_not() -> None:
    few, most, infinite = {3: 1.0, 4: 1.0}, {5: 1.0, 6: 1.0, 7: 1.0}, {7: float("inf")}  # 5 masked calls, 5 compacted
    for errors, shown in ((few, None), (most, r"\d\.\de[+-]\d\d"), (infinite, "inf"), ({7: float("nan")}, "nan")):
        network, callback = Choosy(errors), pruning("magnitude")
        callback.attach(network, network.groups())
        callback.update(0.4)
        if shown is None:
            assert callback.finish(network, draws(5))["masked_vs_compacted"] < 1e-12
        else:
            with pytest.raises(RuntimeError, match=f"differs from the masked one by {shown}:"):
                callback.finish(network, draws(5))
        assert network.calls == 10


def test_outputs_of_zeros_are_the_same() -> None:
    network, callback = attached(pruning("magnitude"))
    network.out.weight.data.zero_()
    network.out.bias.data.zero_()
    callback.update(0.4)
    assert callback.finish(network, draws(1))["masked_vs_compacted"] == 0


def test_finishing_without_inputs_is_refused_before_anything_is_cut() -> None:
    network, callback = attached(pruning("magnitude"))
    callback.update(0.4)
    with pytest.raises(ValueError, match="give at least one draw"):
        callback.finish(network, [])
    assert [g.size for g in network.groups()] == [16, 12]


def test_a_network_can_be_pruned_without_a_training() -> None:
    network, callback = attached(pruning("magnitude"))
    cost = ParamCost(network, network.groups())
    for ratio in (0.7, 0.4):
        callback.update(ratio)
        kept = [len(callback.plan.units(g)) for g in network.groups()]
        assert ratio - 0.06 < cost(kept) / cost([16, 12]) <= ratio
        assert int(callback.gates.mask.sum()) == sum(kept)
    report = callback.finish(network, draws(3))
    assert report["masked_vs_compacted"] < 1e-12
    assert report["ratio_achieved"] == cost(kept) / cost([16, 12])
    assert [g.size for g in network.groups()] == kept


def test_the_mask_holds_while_the_ratio_stands_still() -> None:
    network, callback = attached(pruning("magnitude"))
    callback.update(0.4)
    plan = callback.plan
    shake(network, 5)
    callback.update(0.4)
    assert callback.plan == plan
    callback.update(0.399)
    assert callback.plan != plan


def test_attaching_to_another_network_starts_anew() -> None:
    _, callback = attached(pruning("magnitude"))
    callback.update(0.4)
    plan = callback.plan
    other = shake(MapNet(width=12, hidden=16).double(), 4)
    callback.attach(other, other.groups())
    assert callback.plan == Plan()
    callback.update(0.4)
    assert callback.plan not in (plan, Plan())
    assert not callback.gates.mask.all()


class StreamFirst:
    """Keeps the residual stream before anything inside of a branch, and later branches before earlier ones."""

    learns_gates = False

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        return {g.name: torch.full((g.size,), float(i)) for i, g in enumerate(gates.groups)}

    def penalise(self, gates: Gates, weights: Tensor) -> None:
        raise AssertionError("this test trains nothing")


def test_a_plan_that_empties_branches_is_finished() -> None:
    class MapBranches(BranchNet):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": super().forward(x)}

    network = shake(MapBranches(width=12, hidden=4).double())
    dense, groups = sum(p.numel() for p in network.parameters()), network.groups()
    callback = PruningCallback(0.2, StreamFirst(), OneShot(), floor=0.0)
    callback.attach(network, groups)
    callback.update(0.2)
    kept = [len(callback.plan.units(g)) for g in groups]
    assert kept[:3] == [0, 0, 0]
    assert 0 < kept[3] < 12
    report = callback.finish(network, draws(3))
    assert report["masked_vs_compacted"] < 1e-12
    left = sum(p.numel() for p in network.parameters())
    assert report["ratio_achieved"] == left / dense <= 0.2
    assert not any(isinstance(m, nn.LayerNorm) for m in network.branches[0].modules())


@pytest.mark.parametrize("kept_gates", ["fold", "one"])
def test_what_kept_gates_have_learned_is_folded_or_left_behind(kept_gates: str) -> None:
    network, callback = attached(pruning(kept_gates=kept_gates))
    values = torch.rand(28, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.2
    callback.gates.values.data.copy_(values)
    callback.update(0.4)
    expected = Gates(copy.deepcopy(network), network.groups())
    expected.close(callback.plan)
    if kept_gates == "fold":
        expected.values.data.copy_(values)
    child = compacted(expected.network, expected, callback.plan)
    assert callback.finish(network, draws(1))["masked_vs_compacted"] < 1e-12
    assert_same(network.state_dict(), child.state_dict())


def test_one_shot_leaves_the_whole_stage_dense(tmp_path: Path) -> None:
    module, masks = Regressor(), []
    callback = PruningCallback(0.4, Slim(), OneShot(), every=1, floor=0.05, penalty={"default": 1e-2})
    spy = Spy("on_train_batch_end", lambda *_: masks.append(bool(callback.gates.mask.all())))
    fit(module, [callback, spy], loader(), tmp_path)
    assert masks == [True] * 24
    assert callback.planned == 0.4
    assert callback.finish(module.network, draws(1))["ratio_achieved"] <= 0.4
