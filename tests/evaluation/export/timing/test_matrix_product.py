"""The fastest matrix product of the machine."""

import pytest
import torch

from evaluation.export.timing import matrix_product
from evaluation.export.timing.matrix_product import MatrixProduct, fastest_product


def test_the_fastest_of_several_libraries_and_sizes_is_the_limit(monkeypatch):
    clock, taken = [0.0], {"slow": 2.0, "fast": 0.5}

    def call(name):
        clock[0] += taken[name]

    candidates = [MatrixProduct(name, 10**9, lambda name=name: call(name)) for name in taken]
    monkeypatch.setattr(matrix_product, "_candidates", lambda device, precision: candidates)
    monkeypatch.setattr(matrix_product, "synchronised_time", lambda device: clock[0])
    found = fastest_product()
    assert found.words == "fast"
    assert found.gflops == pytest.approx(4), "two operations for each of 10^9 multiply-accumulates in half a second"


def test_all_candidates_compute_the_product(monkeypatch):
    monkeypatch.setattr(matrix_product, "SIDES", {"cpu": (16,)})
    found = list(matrix_product._candidates("cpu", "fp32"))
    for product in found:
        assert product.macs == 16**3
        a, b = product.call.args[:2]
        torch.testing.assert_close(product.call(), a @ (b if product.words.startswith("torch") else b.T))
    assert found[0].words == "torch.mm, 16 x 16"


def test_int8_products_are_those_of_whole_numbers(monkeypatch):
    monkeypatch.setattr(matrix_product, "SIDES", {"cpu": (32,)})
    (product,) = matrix_product._candidates("cpu", "int8")
    a, b = product.call.args
    assert a.dtype == torch.int8
    assert torch.equal(product.call(), (a.float() @ b.float()).int())
