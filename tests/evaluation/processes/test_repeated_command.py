"""Commands that run once for each process of a job: only the first process tells what all of them check."""

import logging

import pytest

from evaluation.processes.repeated_command import RANKS, logged_once


@pytest.mark.parametrize("variable", RANKS)
@pytest.mark.parametrize(("rank", "told"), [("0", ["plan", "fault", "stage"]), ("1", ["fault", "stage"])])
def test_the_first_process_alone_tells_what_all_processes_check(monkeypatch, caplog, variable, rank, told):
    monkeypatch.setenv(variable, rank)
    caplog.set_level(logging.INFO)
    log = logging.getLogger("evaluation.study.job")
    with logged_once():
        log.info("plan")
        log.error("fault")
    log.info("stage")
    assert caplog.messages == told
