import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn

from pruning.cost import ParamCost, UnitCost
from pruning.criteria import Magnitude, NetworkSlimming, Slim, Taylor
from pruning.errors import PruningError
from pruning.gates import Gates
from pruning.gates.norms import MaskedLayerNorm
from pruning.groups import Group
from pruning.schedules import Linear, OneShot
from pruning.surgery import compact
from tests.pruning.networks import shake
from tests.pruning.training import (
    METHODS,
    ConvRegressor,
    Regressor,
    assert_same,
    draws,
    fit,
    loader,
    pruning,
    weights,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]


class Spy(L.Callback):
    """Callback that calls a function in one hook; its position decides whether it runs before the pruning callback."""

    def __init__(self, hook: str, call: Callable[..., None]):
        setattr(self, hook, call)


class Notes(Logger):
    """Logger that keeps (step, value) by name."""

    name, version = "notes", 0

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.logged.setdefault(name, []).append((step, value))

    def log_hyperparams(self, *given: Any, **named: Any) -> None:
        pass


def own_weights_spy(into: list[dict[str, Tensor]]) -> Spy:
    return Spy("on_train_batch_start", lambda trainer, module, *_: into.append(weights(module)))


def mask_spy(callback: L.Callback, into: list[Tensor]) -> Spy:
    """Returns a spy that collects the mask of every batch."""
    return Spy("on_train_batch_end", lambda *_: into.append(callback.gates.mask.clone()))


# A stage


@pytest.mark.parametrize(("decay", "regrow"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("method", "ratio_of"), [("slim", "params"), ("magnitude", "units")])
def test_the_stage_ends_at_the_asked_ratio(
    method: str, ratio_of: str, decay: bool, regrow: bool, tmp_path: Path
) -> None:
    module, callback = Regressor(), pruning(method, ratio_of=ratio_of, decay=decay, regrow=regrow)
    start = weights(module)
    fit(module, [callback], loader(), tmp_path)
    groups = module.groups()
    cost = {"params": ParamCost, "units": UnitCost}[ratio_of](module.network, groups)
    kept = [len(callback.plan.units(g)) for g in groups]
    asked = 0.4 * cost([g.size for g in groups])
    assert cost(kept) <= asked
    # No unit may return for that, unless it left before the last update and has to stay away.
    there = [g.size if regrow else len(callback.before.units(g)) for g in groups]
    assert all(cost([k + (i == j) for j, k in enumerate(kept)]) > asked for i in (0, 1) if kept[i] < there[i])
    assert not callback.gates.is_folded
    assert [int(mask.sum()) for mask in callback.gates.mask.split(callback.gates.sizes)] == kept
    assert not any(isinstance(m, MaskedLayerNorm) for m in module.network.modules())
    assert not torch.equal(module.network.fc1.weight, start["fc1.weight"])
    learned = bool((callback.gates.values != 1).any())
    assert learned == (method == "slim")
    assert (callback.gates.values >= 0).all()

    x = next(iter(loader(batch=16)))[0]
    report = callback.finish([{"x": x}])
    assert report["masked_vs_compacted"] < 1e-12
    assert report["ratio_achieved"] == cost(kept) / cost([g.size for g in groups]) <= 0.4
    assert [g.size for g in module.groups()] == kept


@pytest.mark.parametrize("decay", [False, True])
def test_the_end_of_a_stage_is_an_update_of_the_mask(decay: bool, tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude", ratio_of="units", every=1000, decay=decay)
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    assert sum(len(units) for units in callback.plan.kept.values()) == int(0.4 * 28)
    assert int(callback.gates.mask.sum()) == int(0.4 * 28)
    assert set(callback.gates.mask.tolist()) == {0, 1}


@pytest.mark.parametrize("method", METHODS)
def test_at_ratio_one_the_callback_changes_no_training(method: str, tmp_path: Path) -> None:
    build, notes = METHODS[method].module, Notes()
    plain, module, callback = build(), build(), pruning(method, ratio=1.0)
    val = loader(batch=8, batches=1)
    for each in (plain, module):
        for p in [*each.network.parameters()][:2]:
            p.requires_grad_(False)
    fit(plain, [], loader(), tmp_path, max_epochs=2, val=val)
    keeper = ModelCheckpoint(tmp_path, "{epoch}")
    fit(module, [callback, keeper], loader(), tmp_path, max_epochs=2, val=val, logger=notes)
    assert not hasattr(callback, "gates")
    assert callback.state_dict() == {}
    assert not any(name.startswith("pruning/") for name in notes.logged)
    assert_same(weights(module), weights(plain))
    assert module.losses == plain.losses
    assert all(torch.equal(a, b) for a, b in zip(module.seen, plain.seen, strict=True))
    assert not any(p.requires_grad for p in [*module.network.parameters()][:2])
    assert callback.state_key not in torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["callbacks"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_accumulating_two_batches_is_one_of_double_size(method: str, tmp_path: Path) -> None:
    results = []
    for batch, accumulate in ((8, 1), (4, 2)):
        module, callback = METHODS[method].module(), pruning(method)
        data = loader(batch, 6 * 8 // batch)
        fit(module, [callback], data, tmp_path, accumulate_grad_batches=accumulate, gradient_clip_val=0.5)
        results.append((callback.plan, callback.gates.values.detach(), weights(module)))
    (plan, gates, own), (plan2, gates2, own2) = results
    assert plan == plan2
    assert plan.kept
    torch.testing.assert_close(gates2, gates, rtol=1e-7, atol=1e-7)
    for name, w in own.items():
        torch.testing.assert_close(own2[name], w, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_mixed_runs_and_reaches_the_ratio(method: str, tmp_path: Path) -> None:
    module, callback = METHODS[method].module(dtype=torch.float32), pruning(method)
    fit(module, [callback], loader(dtype=torch.float32), tmp_path, precision="bf16-mixed")
    assert all(torch.isfinite(w).all() for w in weights(module).values())
    assert {w.dtype for w in weights(module).values() if w.is_floating_point()} == {torch.float32}
    report = callback.finish([{"x": torch.randn(8, 6)}])
    assert report["masked_vs_compacted"] < 1e-5
    assert callback.ratio - (0.2 if method == "depth" else 0.1) < report["ratio_achieved"] <= callback.ratio


def test_the_mask_follows_the_schedule(tmp_path: Path) -> None:
    module, callback, masks = Regressor(), pruning("magnitude", ratio_of="units", decay=False), []
    fit(module, [callback, mask_spy(callback, masks)], loader(), tmp_path)
    assert len(masks) == 24
    for step, mask in enumerate(masks):
        asked = callback.schedule(step // 4 * 4 / 24, 0.4)
        assert asked - 1 / 28 < float(mask.mean()) <= asked + 1e-6


def test_ratios_churn_and_kept_units_are_logged(tmp_path: Path) -> None:
    module, callback, notes, masks = Regressor(), pruning("magnitude", decay=False), Notes(), []
    fit(module, [callback, mask_spy(callback, masks)], loader(), tmp_path, logger=notes)
    names = {"ratio_asked", "ratio_achieved", "mask_churn", "kept/hidden", "kept/width"}
    logged = {n.removeprefix("pruning/"): v for n, v in notes.logged.items() if n.startswith("pruning/")}
    assert logged.keys() == names
    assert all([step for step, _ in values] == [0, 4, 8, 12, 16, 20, 24] for values in logged.values())
    assert logged["ratio_asked"][-1][1] == callback.ratio
    assert logged["ratio_achieved"][-1][1] == callback.finish(draws(1))["ratio_achieved"]
    cost, before = ParamCost(module.network, module.groups()), torch.ones(28, dtype=torch.float64)
    for i, mask in enumerate(masks[::4]):
        values = {name: logged[name][i][1] for name in names}
        kept = [float(part.sum()) for part in mask.split([16, 12])]
        assert [values["kept/hidden"], values["kept/width"]] == kept
        assert values["ratio_asked"] == callback.schedule(4 * i / 24, 0.4)
        assert values["ratio_achieved"] == cost(kept) / cost([16, 12])
        assert values["mask_churn"] == pytest.approx(float((mask != before).double().mean()))
        before = mask
    assert logged["mask_churn"][0][1] == 0 < max(churn for _, churn in logged["mask_churn"])


def test_churn_is_the_same_with_and_without_decay(tmp_path: Path) -> None:
    churns = []
    for decay in (False, True):
        notes, module = Notes(), Regressor(lr=0.0)
        fit(module, [pruning("random", decay=decay)], loader(), tmp_path, logger=notes)
        churns.append(notes.logged["pruning/mask_churn"])
    assert churns[0] == churns[1]


# Decay


@pytest.mark.parametrize("accumulate", [1, 2])
def test_units_fade_linearly_and_are_gone_before_the_next_update(accumulate: int, tmp_path: Path) -> None:
    module, callback, masks = Regressor(), pruning("magnitude"), []
    data = loader(batch=4, batches=6 * accumulate)
    fit(module, [callback, mask_spy(callback, masks)], data, tmp_path, accumulate_grad_batches=accumulate)
    assert len(masks) == 24 * accumulate
    assert all(torch.equal(a, b) for a, b in zip(masks[::accumulate], masks[accumulate - 1 :: accumulate], strict=True))
    masks = masks[::accumulate]
    before, faded = torch.ones(28, dtype=torch.float64), 0
    for step in range(0, 24, 4):
        last = masks[step + 3]
        assert set(last.tolist()) <= {0, 1}
        rules = (before > 0) & (last == 0)
        faded += int(rules.sum())
        for i, share in enumerate((0.75, 0.5, 0.25, 0.0)):
            torch.testing.assert_close(masks[step + i], torch.where(rules, share, last))
        before = last
    assert faded == 28 - int(masks[-1].sum()) > 10
    assert torch.equal(callback.gates.mask, masks[-1])
    assert callback.ratio_achieved <= 0.4


def test_units_that_return_fade_in(tmp_path: Path) -> None:
    class Turning(Magnitude):
        """Criterion that reverses its ranking at every call."""

        sign = 1

        def __call__(self, gates: Gates) -> dict[str, Tensor]:
            self.sign *= -1
            return {name: 100 + self.sign * score for name, score in super().__call__(gates).items()}

    module, masks = Regressor(), []
    callback = pruning("magnitude", criterion=Turning(), regrow=True, normalise="none")
    fit(module, [callback, mask_spy(callback, masks)], loader(), tmp_path)
    returned = 0
    for step in range(4, 24, 4):
        coming = (masks[step - 1] == 0) & (masks[step + 3] == 1)
        returned += int(coming.sum())
        for i, share in enumerate((0.25, 0.5, 0.75, 1.0)):
            assert masks[step + i][coming].tolist() == pytest.approx([share] * int(coming.sum()))
    assert returned > 3


def test_the_loss_does_not_jump_where_units_leave(tmp_path: Path) -> None:
    """Trains on one batch with a tiny learning rate, so that only the masks change the loss."""
    jumps = {}
    for decay in (False, True):
        module = Regressor(lr=1e-5)
        callback = pruning("random", every=10, decay=decay, schedule=Linear(0.1, 0.9))
        fit(module, [callback], loader(24, 1), tmp_path, max_epochs=100)
        jumps[decay] = max(abs(b - a) for a, b in pairwise(module.losses))
    assert jumps[True] < 0.35 * jumps[False]


@pytest.mark.parametrize("end", [0.8, 1.0])  # the last update is that of step 20, or comes after the last step
def test_a_stage_that_ends_while_units_fade_ends_without_them(end: float, tmp_path: Path) -> None:
    module, masks = Regressor(), []
    callback = pruning("magnitude", ratio_of="units", every=5, schedule=Linear(0.0, end))
    fit(module, [callback, mask_spy(callback, masks)], loader(), tmp_path)
    assert set(masks[-1].tolist()) > {0, 1}  # 24 steps are four intervals and the most of a fifth
    assert set(callback.gates.mask.tolist()) == {0, 1}
    assert callback.planned_ratio == 0.4
    assert sum(callback.kept_counts().values()) == int(callback.gates.mask.sum()) == int(0.4 * 28)
    assert callback.finish(draws(1))["masked_vs_compacted"] < 1e-12


# Validation, exceptions, checkpoints


@pytest.mark.parametrize("decay", [False, True])
def test_validation_sees_what_the_child_will_be(decay: bool, tmp_path: Path) -> None:
    module, callback = Regressor(), pruning(decay=decay)
    val = loader(batch=8, batches=1)
    expected: list[Tensor] = []
    soft: list[bool] = []

    def child_output(trainer: L.Trainer, module: Regressor) -> None:
        soft.append(set(callback.gates.mask.tolist()) > {0, 1})
        child = copy.deepcopy(module.network)
        gates = Gates(child, module.groups())
        gates.close(callback.plan)
        gates.values.data.copy_(callback.gates.values.data)
        gates.fold_permanently()
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
    assert any(soft) == decay  # in the middle of an interval


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


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_as_an_unbroken_one(method: str, epoch: int, tmp_path: Path) -> None:
    """Interrupts the stage 1, 2 or 3 steps after an update, while gates close."""
    build = METHODS[method].module
    module, callback = build(), pruning(method)
    keeper, masks = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=1), []
    fit(module, [callback, keeper, mask_spy(callback, masks)], loader(batches=5), tmp_path)

    again, resumed, others = build(), pruning(method), []
    shake(again.network, 99)
    checkpoint = tmp_path / f"epoch={epoch}.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["global_step"] == 5 * (epoch + 1)
    state = saved["callbacks"][callback.state_key]
    assert state["updated"] == 4 * (epoch + 1)
    assert state["plan"] != state["before"] or method == "depth"  # which waits until it can afford to lose a branch
    fit(again, [resumed, mask_spy(resumed, others)], loader(batches=5), tmp_path, resume=checkpoint)
    assert resumed.plan == callback.plan
    assert resumed.plan.kept
    assert torch.equal(resumed.gates.values, callback.gates.values)
    assert all(torch.equal(a, b) for a, b in zip(others, masks[5 * (epoch + 1) :], strict=True))
    assert_same(weights(again), weights(module))
    assert again.losses == module.losses[5 * (epoch + 1) :]


# Gradients of gates


def test_criteria_that_look_at_weights_have_no_gate_gradients_made(tmp_path: Path) -> None:
    seen: dict[str, list[bool]] = {}

    def watching(base: type) -> Any:
        class Watching(base):
            def after_step(self, gates: Gates) -> None:
                seen.setdefault(base.__name__, []).append(gates.values.grad is None)
                super().after_step(gates)

        return Watching()

    for base in (Magnitude, Taylor, Slim):
        module, callback = Regressor(), pruning("magnitude", criterion=watching(base))
        fit(module, [callback], loader(), tmp_path)
        assert callback.gates.values.grad is None
    assert seen == {"Magnitude": [True] * 24, "Taylor": [False] * 24, "Slim": [False] * 24}


FROZEN = ("embed.weight", "embed.bias", "fc2.weight", "square.weight")


@pytest.mark.parametrize("method", ["magnitude", "taylor", "slim"])
def test_weights_that_are_not_trained_tell_their_gates_what_they_are_worth(method: str, tmp_path: Path) -> None:
    gradients, pasts = {}, {}

    class Noting(METHODS[method].criterion().__class__):
        def after_step(self, gates: Gates) -> None:
            if gates.values.grad is not None:
                gradients.setdefault(frozen, gates.values.grad.clone())
            super().after_step(gates)

    for frozen in (False, True):
        module, callback = Regressor(), pruning(method, criterion=Noting(), ratio=0.8)
        start = weights(module)
        for name in FROZEN:
            module.network.get_parameter(name).requires_grad_(not frozen)

        def note(trainer: L.Trainer, module: Regressor, *_: Any, frozen: bool = frozen) -> None:
            pasts.setdefault(frozen, []).append({n: module.network.get_parameter(n).grad is None for n in FROZEN})

        fit(module, [callback, Spy("on_before_optimizer_step", note)], loader(), tmp_path)
    assert all(all(step.values()) for step in pasts[True])
    assert not any(any(step.values()) for step in pasts[False])
    for name in FROZEN:
        assert torch.equal(weights(module)[name], start[name])
        assert not module.network.get_parameter(name).requires_grad  # as before the stage
    assert not torch.equal(weights(module)["fc1.weight"], start["fc1.weight"])
    if method != "magnitude":
        torch.testing.assert_close(gradients[True], gradients[False], rtol=1e-12, atol=1e-14)
    else:
        assert not gradients


# Penalties


def test_the_penalty_is_weighed_by_kind_and_drives_gates_down(tmp_path: Path) -> None:
    shares = {}
    for weight in (0.0, 10.0):
        module, callback = Regressor(), pruning(criterion=Slim({"default": 0.0, "hidden": weight}, travel=0.5))
        fit(module, [callback], loader(), tmp_path)
        shares[weight] = {
            name: float(v.mean()) for name, v in callback.gates.split(callback.gates.values.detach()).items()
        }
        by_kind = callback.gates.split(callback.criterion.weights)
        assert (by_kind["hidden"] == weight).all()
        assert not by_kind["width"].any()
    # Adam walks at its rate, `travel` over the stage, where the penalty rules.
    assert shares[10.0]["hidden"] == pytest.approx(0.5, abs=0.02)
    assert shares[0.0]["hidden"] > 0.6


def test_slimming_drives_scales_down_and_leaves_frozen_ones(tmp_path: Path) -> None:
    sizes = {}
    for weight in (0.0, 5.0):
        module = ConvRegressor()
        module.network.bn3.requires_grad_(False)
        start = weights(module)
        callback = pruning(criterion=NetworkSlimming({"default": 0.0, "inner": weight}), ratio=0.8, every=1000)
        fit(module, [callback], loader(), tmp_path)
        assert torch.equal(module.network.bn3.weight, start["bn3.weight"])
        assert callback.gates.values.eq(1).all()
        sizes[weight] = {n: module.network.get_parameter(f"{n}.weight").abs().mean() for n in ("bn0", "bn1")}
        kept = callback.plan.units(next(g for g in module.groups() if g.name == "inner"))
        scales = callback.criterion(callback.gates)["inner"]
        assert min(scales[list(kept)]) > max([0.0, *(scales[u] for u in range(5) if u not in kept)])
        assert callback.finish(draws(1))["masked_vs_compacted"] < 1e-12
    # 24 steps of 0.05: those that began below 1.2 now oscillate around 0, and only the chosen kind is penalised.
    assert sizes[5.0]["bn1"] < 0.3 * sizes[0.0]["bn1"]
    assert sizes[5.0]["bn0"] > 0.8 * sizes[0.0]["bn0"]


def test_slimming_adds_its_penalty_once_a_step_to_the_scales_themselves(tmp_path: Path) -> None:
    module, gradients = ConvRegressor(), []
    callback = pruning(criterion=NetworkSlimming({"default": 0.5}), every=1)

    def note(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        gradients.append((module.network.bn1.weight.detach().clone(), module.network.bn1.weight.grad.clone()))

    def silence(trainer: L.Trainer, module: Regressor, *_: Any) -> None:
        module.network.bn1.weight.grad.zero_()

    around = Spy("on_before_optimizer_step", silence), Spy("on_before_optimizer_step", note)
    fit(module, [around[0], callback, around[1]], loader(), tmp_path, accumulate_grad_batches=2)
    assert len(gradients) == 12
    assert all(torch.equal(gradient, 0.5 * scale.sign()) for scale, gradient in gradients)
    assert not callback.gates.split(callback.gates.mask)["inner"].all()  # also where gates were closed


# Settings


@pytest.mark.parametrize("every", [0, -3])
def test_an_interval_without_steps_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=rf"every={every} must be at least 1"):
        pruning(every=every)


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(TypeError, match="penalty"):
        pruning(penalty={"default": 1.0})


def test_only_chosen_kinds_are_pruned(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude", ratio=0.8, kinds=["hidden"])
    fit(module, [callback], loader(), tmp_path)
    assert set(callback.plan.kept) == {"hidden"}
    assert not any(isinstance(m, MaskedLayerNorm) for m in module.network.modules())


def test_a_stage_of_unknown_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass it max_steps or max_epochs"):
        fit(Regressor(), [pruning()], loader(), tmp_path, max_epochs=-1, max_time="00:00:00:10")


def test_one_shot_leaves_the_whole_stage_dense(tmp_path: Path) -> None:
    module, masks = Regressor(), []
    callback = pruning(schedule=OneShot(), every=1)
    spy = Spy("on_train_batch_end", lambda *_: masks.append(bool(callback.gates.mask.all())))
    fit(module, [callback, spy], loader(), tmp_path)
    assert masks == [True] * 24
    assert callback.planned_ratio == 0.4
    assert callback.finish(draws(1))["ratio_achieved"] <= 0.4


# Errors


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
    """Network that gates the rows of fc1 but not the bias, so that the mask does not close its units."""

    def groups(self) -> list[Group]:
        hidden, width = super().groups()
        slices = tuple(replace(s, gated=s.path == "fc1.weight") for s in hidden.slices)
        return [replace(hidden, slices=slices), width]


def test_a_wrong_declaration_is_found_when_the_stage_is_finished(tmp_path: Path) -> None:
    module, callback = Forgetful(), pruning("magnitude")
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    with pytest.raises(PruningError, match=r"group 'hidden' .* the outputs differ by \d"):
        callback.finish(draws(5))


def test_outputs_that_are_not_finite_are_found_when_the_stage_is_finished(tmp_path: Path) -> None:
    module, callback = Regressor(), pruning("magnitude")
    fit(module, [callback], loader(), tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError, match="outputs of the masked network are not finite"):
        callback.finish([*draws(4), {"x": torch.full((8, 6), torch.nan, dtype=torch.float64)}])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_validation_sees_no_unit_on_its_way_out(accumulate: int, tmp_path: Path) -> None:
    module, callback, seen, stepped = Regressor(), pruning("magnitude", every=6), [], []
    looks = Spy("on_validation_start", lambda *_: seen.append(callback.gates.mask.clone()))
    steps = Spy("on_train_batch_end", lambda *_: stepped.append(callback.gates.mask.clone()))
    options = {"val": loader(batch=8, batches=1), "val_check_interval": 1, "accumulate_grad_batches": accumulate}
    fit(module, [callback, looks, steps], loader(), tmp_path, **options)
    assert any(((mask > 0) & (mask < 1)).any() for mask in stepped)
    assert all(((mask == 0) | (mask == 1)).all() for mask in seen)
    assert len(seen) == 24
