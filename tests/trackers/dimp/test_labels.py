"""Tests of the labels of score maps, above all of targets that lie partly or wholly outside of the map."""

import math

import numpy as np
import pytest
import torch

from trackers.dimp.labels import centre_offsets, gaussian_labels, label_density
from trackers.dimp.optimisers import Newton

CELLS, STRIDE, SIGMA = 9, 16, 0.8


def box_at(x: float, y: float) -> torch.Tensor:
    """Returns a box of 20 x 10 pixels whose centre lies at some cells."""
    return torch.tensor([x * STRIDE - 10, y * STRIDE - 5, 20, 10], dtype=torch.float64)


def mass_at(x: float, y: float) -> np.ndarray:
    """Returns the share of a Gaussian in each cell (F, F), computed cell by cell."""
    cells = range(CELLS)
    at = [[math.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * SIGMA**2)) for i in cells] for j in cells]
    return np.array(at) / (2 * math.pi * SIGMA**2)


# Columns beyond the right border, and the share of the Gaussian that is left on the map, which the tests assert.
OUTSIDE = {0.5: 0.5, 1.0: 0.251, 1.5: 0.0898, 2.0: 0.0224, 2.5: 0.00381, 3.0: 0.000443}


@pytest.mark.parametrize(("beyond", "share"), OUTSIDE.items())
def test_a_density_is_uniform_if_a_hundredth_of_the_target_is_on_the_map(beyond: float, share: float) -> None:
    mass = mass_at(CELLS - 1 + beyond, 4)
    assert mass.sum() == pytest.approx(share, rel=0.02)
    density = label_density(box_at(CELLS - 1 + beyond, 4), CELLS, STRIDE, SIGMA).numpy()
    expected = mass / mass.sum() if share > 0.01 else np.full((CELLS, CELLS), 1 / CELLS**2)
    np.testing.assert_allclose(density, expected, rtol=1e-5)


@pytest.mark.parametrize(("beyond", "share"), [(-4.0, 1.0), *OUTSIDE.items()])
def test_newtons_density_sums_to_one_however_little_of_the_target_is_on_the_map(beyond: float, share: float) -> None:
    """Training losses take such a target for absent; the optimiser learns where it is."""
    box, features = box_at(CELLS - 1 + beyond, 4), torch.zeros(1, 1, 1, CELLS, CELLS, dtype=torch.float64)
    density, _ = Newton(STRIDE, SIGMA)._fixed_terms(features, box[None, None], 4, None)
    assert density.shape == (1, 1, CELLS + 1, CELLS + 1)
    density, _ = Newton(STRIDE, SIGMA)._fixed_terms(features, (box + torch.tensor([8, 8, 0, 0]))[None, None], 3, None)
    mass = mass_at(CELLS - 1 + beyond, 4)
    np.testing.assert_allclose(density[0, 0].numpy(), mass / (mass.sum() + 1e-8), rtol=1e-9)
    assert float(density.sum()) == pytest.approx(1, abs=1e-3)


def test_newtons_density_is_zero_if_nothing_of_the_target_is_on_the_map() -> None:
    features = torch.zeros(1, 1, 1, CELLS, CELLS)
    density, _ = Newton(STRIDE, SIGMA)._fixed_terms(features, box_at(300, -300)[None, None].float(), 4, None)
    assert not density.any()


def test_densities_keep_their_scale_unless_they_are_normalised() -> None:
    density = label_density(box_at(3.3, 4.6), CELLS, STRIDE, SIGMA, normalise=False).numpy()
    np.testing.assert_allclose(density, mass_at(3.3, 4.6), rtol=1e-12)


def test_each_map_of_a_batch_is_normalised_alone() -> None:
    boxes = torch.stack([box_at(4, 4), box_at(9, 4), box_at(40, 4)])
    density = label_density(boxes.view(3, 1, 4), CELLS, STRIDE, SIGMA)
    assert density.shape == (3, 1, CELLS, CELLS)
    for box, each in zip(boxes, density, strict=True):
        torch.testing.assert_close(each[0], label_density(box, CELLS, STRIDE, SIGMA))


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_labels_are_one_at_the_centre(offset: float) -> None:
    """Boxes of several frames at once; a score lies at `offset` in its cell."""
    boxes = torch.stack([box_at(2 + offset, 5 + offset), box_at(7 + offset, offset)])[:, None]
    labels = gaussian_labels(boxes, CELLS, STRIDE, SIGMA, offset)
    assert labels.shape == (2, 1, CELLS, CELLS)
    assert labels[0, 0, 5, 2] == labels[1, 0, 0, 7] == 1
    assert float(labels[0, 0, 5, 3]) == pytest.approx(math.exp(-1 / (2 * SIGMA**2)))
    assert float(labels[0, 0, 7, 2]) == pytest.approx(math.exp(-4 / (2 * SIGMA**2)))
    columns, rows = centre_offsets(boxes[0, 0], CELLS, STRIDE, offset)
    assert columns.tolist() == [i - 2.0 for i in range(CELLS)]
    assert rows.tolist() == [i - 5.0 for i in range(CELLS)]
