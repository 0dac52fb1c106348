import multiprocessing
import time

import pytest

from datamodules import lost_worker
from datamodules.lost_worker import naming_lost_workers

ERRORS = [ConnectionResetError, ConnectionRefusedError, BrokenPipeError, EOFError, FileNotFoundError]


def fails(error):
    yield "a batch"
    raise error("of the connection")


@pytest.fixture
def worker(request):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(request.param,))
    process.start()
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("worker", [0.3], indirect=True)
def test_a_worker_that_dies_while_it_hands_over_a_batch_is_named(worker, error):
    batches = naming_lost_workers(fails(error), [worker])
    assert next(batches) == "a batch"
    with pytest.raises(RuntimeError, match=rf"DataLoader worker \(pid\(s\) {worker.pid}\) exited unexpectedly"):
        next(batches)


@pytest.mark.parametrize("worker", [60], indirect=True)
def test_an_error_of_a_living_worker_stays_as_it_is(worker, monkeypatch):
    monkeypatch.setattr(lost_worker, "SECONDS_TO_DIE", 0.1)
    with pytest.raises(FileNotFoundError, match="of the connection"):
        list(naming_lost_workers(fails(FileNotFoundError), [worker]))


def test_an_error_without_workers_stays_as_it_is():
    with pytest.raises(EOFError):
        list(naming_lost_workers(fails(EOFError), []))
