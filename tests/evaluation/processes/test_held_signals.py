"""Signals that wait until a training has finished its step."""

import signal
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from evaluation.processes import held_signals, launching, ranks
from evaluation.processes.held_signals import SAVE, HeldSignals
from evaluation.processes.termination import ends_in_order
from tests.processes import join_two_ranks, quick_spawn


def test_a_held_signal_waits_for_its_release_and_its_handler_decides(monkeypatch):
    calls = []
    handlers = {signal.SIGUSR2: lambda *_: calls.append("requeue"), signal.SIGINT: signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with HeldSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert not signals.pending, "an ignored signal stays ignored"
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR2)  # a copy, as launchers forward what the whole group got
            assert (signals.pending, calls) == (signal.SIGUSR2, [])
            signals.release(signal.SIGUSR2)  # returns, as this handler ends nothing
            assert (signals.pending, calls) == (0, ["requeue"])
            signal.raise_signal(signal.SIGUSR2)
            monkeypatch.setattr(held_signals, "COPIES", 0.0)
            signal.raise_signal(signal.SIGUSR2)
            assert calls == ["requeue"] * 2, "the second signal works at once"
            signals.release_last()
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    def fail() -> None:
        with HeldSignals():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("an error while a signal waits must not let a sweep go on")

    with pytest.raises(SystemExit) as end:
        fail()
    assert end.value.code == 143


@pytest.mark.parametrize(
    ("mine", "of_another", "most_urgent"),
    [
        (0, 0, 0),
        (0, SAVE, SAVE),
        (SAVE, signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR2),  # the smaller number: a requeue must not be lost
        (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1),
    ],
)
def test_processes_agree_on_the_most_urgent_signal(monkeypatch, mine, of_another, most_urgent):
    told: list[int] = []
    monkeypatch.setattr(held_signals, "largest", lambda value: told.append(value) or value)
    held_signals.most_urgent(of_another)
    monkeypatch.setattr(held_signals, "largest", lambda value: max(value, *told))
    assert held_signals.most_urgent(mine) == most_urgent


@pytest.mark.parametrize("copies", [0.0, 1.0])
def test_the_signal_of_a_launcher_takes_the_place_of_sigterm(monkeypatch, copies):
    calls = []
    monkeypatch.setattr(held_signals, "COPIES", copies)
    handlers = {number: lambda number, _: calls.append(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with HeldSignals() as signals:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGUSR2)
            assert calls == [], "the step goes on"
            signals.release_last()
        assert calls == [signal.SIGUSR2]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_spawned_processes_leave_the_signals_of_a_launcher_to_the_process_that_waits_for_them(monkeypatch):
    before = {number: signal.signal(number, signal.SIG_DFL) for number in held_signals.FROM_LAUNCHERS}
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "")
    monkeypatch.setattr(launching, "exit_with_parent", lambda: None)
    monkeypatch.setattr(launching, "build_trainer", lambda _: None)
    monkeypatch.setattr(launching, "_work_in_process", lambda _, work: work())
    try:
        settings = OmegaConf.create({"strategy": "ddp_spawn"})
        found = launching._work_in_spawned_process(settings, None, lambda: [*map(signal.getsignal, before)])
        assert found == [signal.SIG_IGN] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_step_that_takes_too_long_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(held_signals, "GRACE", 0.1)
    monkeypatch.setattr(held_signals, "COPIES", 0.0)
    waited = []

    def hang() -> None:
        with ends_in_order(), HeldSignals():
            signal.raise_signal(signal.SIGTERM)
            time.sleep(60)
            waited.append(True)

    with pytest.raises(SystemExit) as end:
        hang()
    assert end.value.code == 143
    assert not waited


def wait_for_signals(rank: int, folder: Path) -> None:
    """Goes through steps in one of two processes; rank 1 alone gets signals, of which the first ends nothing."""
    join_two_ranks(rank, folder)
    ranks.join_process_group()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with HeldSignals() as signals:
        for step in range(9):
            if rank and step in (2, 5):
                signal.raise_signal(signal.SIGUSR1 if step == 2 else signal.SIGTERM)
            try:
                signals.release_last()
            except SystemExit as end:
                (folder / f"{rank}.txt").write_text(f"step {step}, code {end.code}")
                return


@pytest.mark.attack
def test_a_signal_to_one_process_ends_all_in_the_same_step(tmp_path):
    with quick_spawn():
        torch.multiprocessing.start_processes(wait_for_signals, (tmp_path,), nprocs=2, start_method="spawn")
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["step 5, code 143", "step 5, code 0"]
