"""Tests of SuperDiMP's classifier beyond the reference vectors: pooling, optimiser steps and pruned channels."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.gates import Gates
from pruning.groups import Group
from pruning.groups.checks import check_groups
from pruning.plan import Plan
from pruning.surgery import compact
from trackers.dimp.classifier import Classifier, normalise
from trackers.dimp.filters import FilterInitialiser, apply_filter, filter_gradient
from trackers.dimp.labels import gaussian_labels, label_density
from trackers.dimp.losses import kl_grid, lb_hinge
from trackers.dimp.optimisers import GaussNewton, Newton, look_up
from trackers.dimp.pooling import precise_roi_pool

STRIDE, CELLS, WIDTH, INPUTS = 16, 9, 6, 5
BOXES = torch.tensor(
    [
        [[40.0, 50, 40, 30], [60, 33, 21, 50]],
        [[44, 47, 38, 32], [70, 20, 30, 44]],
        [[-9, 90, 25, 60], [55, 39, 20, 49]],
    ],
    dtype=torch.float64,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def optimiser(kind: type[nn.Module], **options: float) -> nn.Module:
    """Returns an optimiser with changed parameters, since constant weights and sharp labels hide mistakes."""
    module = kind(STRIDE, 0.9, **options).double()
    for i, p in enumerate(module.parameters()):
        p.data += 0.05 * draw(*p.shape, seed=i)
    return module


def classifier(kind: type[nn.Module], seed: int = 0, size: int = 4, **options: object) -> Classifier:
    torch.manual_seed(seed)
    made = Classifier(INPUTS, WIDTH, size, STRIDE, optimiser(kind), 3, **options).double()
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if tensor.is_floating_point() and not name.startswith("optimiser."):
            tensor.data = torch.rand_like(tensor) + 0.2 if tensor.dim() == 1 else torch.randn_like(tensor)
    return made.eval()


# Pooling


def test_aligned_bins_are_means_of_trapezes():
    """Over whole cells the mean of the bilinear surface is the mean of the cells' corners."""
    features, boxes = draw(1, 3, 8, 8), torch.tensor([[[16.0, 32, 80, 96]]], dtype=torch.float64)
    pooled = precise_roi_pool(features, boxes, 4, 1 / 16)
    corners = F.avg_pool2d(features, 2, 1)[:, :, 2:6, 1:5]
    torch.testing.assert_close(pooled[:, 0], corners, rtol=0, atol=1e-14)


def test_pooling_is_the_integral():
    """Compares with a dense sum, for boxes inside, across the border and in the ring where the map fades to zero."""
    features = draw(1, 2, 6, 7)
    boxes = torch.tensor([[[13.0, 21, 57, 71], [-30, -25, 40, 50], [60, 70, 200, 160], [-14, 20, -3, 60]]]).double()
    count, size = 400, 3
    low, high = boxes[0, :, :2] / 16, boxes[0, :, 2:] / 16
    at = (torch.arange(size * count, dtype=torch.float64) + 0.5) / (size * count)
    x, y = (low[..., None] + (high - low)[..., None] * at).unbind(1)
    hats = [(1 - (v[..., None] - torch.arange(n)).abs()).clamp_min(0) for v, n in ((y, 6), (x, 7))]
    dense = F.avg_pool2d(torch.einsum("kyi,cij,kxj->kcyx", hats[0], features[0], hats[1]), count)
    torch.testing.assert_close(precise_roi_pool(features, boxes, size, 1 / 16)[0], dense, rtol=0, atol=1e-5)


def test_pooling_has_gradients():
    features = draw(2, 2, 4, 5).requires_grad_()
    boxes = torch.tensor([[[3.0, 5, 41, 33], [-20, 7, 30, 90]], [[50.3, 20, 51.9, 23], [7, 7, 29, 31]]]).double()
    assert torch.autograd.gradcheck(lambda f, b: precise_roi_pool(f, b, 2, 1 / 16), (features, boxes.requires_grad_()))


def test_boxes_without_area_give_zero():
    features = draw(1, 2, 5, 5).requires_grad_()
    boxes = torch.tensor([[[20.0, 20, 20, 60], [20, 60, 60, 20], [30, 30, 30, 30]]], requires_grad=True)
    pooled = precise_roi_pool(features, boxes, 3, 1 / 16)
    (pooled + pooled.square()).sum().backward()
    assert not pooled.any()
    assert not boxes.grad.any()
    assert not features.grad.any()


def test_pooling_is_single_precise_under_autocast():
    features, boxes = draw(1, 2, 8, 8).float(), torch.tensor([[[13.0, 21, 57, 71]]])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = precise_roi_pool(features, boxes, 4, 1 / 16)
    assert torch.equal(pooled, precise_roi_pool(features, boxes, 4, 1 / 16))


# Filters


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_filters_are_convolutions_and_their_adjoint(size):
    features, filters = draw(3, 2, 4, 7, 9), draw(2, 4, size, size, seed=1).requires_grad_()
    scores = apply_filter(features, filters)
    for b in range(2):
        torch.testing.assert_close(scores[:, b], F.conv2d(features[:, b], filters[b, None], padding=size // 2)[:, 0])
    residuals = draw(*scores.shape, seed=2)
    (gradient,) = torch.autograd.grad(scores, filters, residuals)
    torch.testing.assert_close(filter_gradient(features, residuals, size), gradient)


@torch.no_grad()
def test_the_first_filter_is_the_pooled_convolution():
    """The initialiser pools before it convolves, which is exact also at the map's border."""
    initialiser, features = FilterInitialiser(WIDTH, 4, STRIDE).double(), draw(3, 2, WIDTH, CELLS, CELLS)
    initialiser.conv.bias += draw(WIDTH)
    boxes = torch.cat([BOXES[..., :2], BOXES[..., :2] + BOXES[..., 2:]], -1).flatten(0, 1)
    maps = initialiser.conv(features.flatten(0, 1))
    expected = precise_roi_pool(maps, boxes[:, None], 4, 1 / STRIDE)[:, 0].unflatten(0, (3, 2)).mean(0)
    torch.testing.assert_close(initialiser(features, BOXES), expected, rtol=1e-12, atol=1e-12)


def test_convolutions_start_as_published():
    """He initialisation by outputs of the features, by inputs of the initialiser, and zeros for PrDiMP."""
    torch.manual_seed(0)
    width = 64
    made = Classifier(width, width, 4, STRIDE, GaussNewton(STRIDE, 0.9), 3)
    for conv in (made.features.conv, made.initialiser.conv):
        assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * width)) ** 0.5, rel=0.02)
    assert not made.initialiser.conv.bias.any()
    assert not FilterInitialiser(width, 4, STRIDE, zero=True).conv.weight.any()


# Optimisers


def slow_gauss_newton(module: GaussNewton, filters: Tensor, features: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """Computes one step by autograd: the gradient of half the loss, and the Gauss-Newton curvature along it."""
    size = filters.shape[-1]
    filters = filters.clone().requires_grad_()
    centre = (boxes[..., :2] + boxes[..., 2:] / 2) / STRIDE - 0.5 * (size % 2)
    ticks = torch.arange(CELLS + 1 - size % 2, dtype=torch.float64)
    distance = torch.hypot(ticks[:, None] - centre[..., 1, None, None], ticks - centre[..., 0, None, None])

    def table(values: Tensor) -> Tensor:
        knots = np.arange(len(values)) * module.bin
        return torch.from_numpy(np.interp(distance, knots, values.detach()))

    label, mask, weight = table(module.label), table(module.mask).sigmoid(), table(module.weight)

    def residuals(f: Tensor) -> Tensor:
        s = torch.stack([F.conv2d(features[:, b], f[b, None], padding=size // 2)[:, 0] for b in range(len(f))], 1)
        fit = weights[..., None, None].sqrt() * weight * (torch.where(s > 0, s, mask * s) - label)
        return torch.cat([fit.transpose(0, 1).flatten(1), (module.filter_reg * f).flatten(1)], 1)

    (gradient,) = torch.autograd.grad(residuals(filters).square().sum() / 2, filters)
    _, bend = torch.autograd.functional.jvp(residuals, filters.detach(), gradient)
    length = gradient.square().sum((1, 2, 3)) / bend.square().sum(1)
    loss = residuals(filters).square().sum() / len(filters)
    torch.testing.assert_close(module.objective(filters, features, boxes, weights), loss)
    return (filters - (module.log_step_length.exp() * length)[:, None, None, None] * gradient).detach()


def slow_newton(module: Newton, filters: Tensor, features: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    size, strength = filters.shape[-1], module.filter_reg.clamp_min(module.min_regularisation) ** 2
    label = label_density(boxes, CELLS + 1 - size % 2, STRIDE, module.sigma, 0.5 * (size % 2), normalise=False)
    label = label / (label.sum((-2, -1), keepdim=True) + 1e-8)

    def loss(f: Tensor, b: int) -> Tensor:
        s = F.conv2d(features[:, b], f[None], padding=size // 2)[:, 0].flatten(1)
        entropy = s.logsumexp(1) - (label[:, b].flatten(1) * s).sum(1)
        return (weights[:, b] * entropy).sum() + strength[0] / 2 * f.square().sum()

    result, value = [], 0
    for b, f in enumerate(filters):
        _, gradient = torch.autograd.functional.vjp(lambda x, b=b: loss(x, b), f)
        _, bent = torch.autograd.functional.hvp(lambda x, b=b: loss(x, b), f, gradient)
        square = gradient.square().sum()
        length = square / ((gradient * bent).sum() + module.alpha_eps * square)
        result.append((f - module.log_step_length.exp() * length * gradient).detach())
        value = value + loss(f, b) + strength[0] / 2 * f.square().sum()
    torch.testing.assert_close(module.objective(filters, features, boxes, weights), value / len(filters))
    return torch.stack(result)


@pytest.mark.parametrize("size", [4, 3])
@pytest.mark.parametrize(("kind", "slow"), [(GaussNewton, slow_gauss_newton), (Newton, slow_newton)])
def test_steps_are_those_of_autograd(kind, slow, size):
    module, features = optimiser(kind), draw(3, 2, WIDTH, CELLS, CELLS)
    filters, weights = draw(2, WIDTH, size, size, seed=1), torch.tensor([[0.5, 0.1], [0.3, 0.2], [0.2, 0.7]]).double()
    with torch.inference_mode():
        iterates = module(filters, features, BOXES, 3, weights)
    assert torch.equal(iterates[0], filters)
    for before, after in pairwise(iterates):
        expected = slow(module, before.clone(), features, BOXES, weights)
        torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
def test_a_batch_is_its_sequences(kind):
    module, features = optimiser(kind), draw(3, 2, WIDTH, CELLS, CELLS)
    filters = draw(2, WIDTH, 4, 4, seed=1)
    together = module(filters, features, BOXES, 2)
    for b in range(2):
        alone = module(filters[b : b + 1], features[:, b : b + 1], BOXES[:, b : b + 1], 2)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[b])


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
def test_learning_lowers_the_objective_and_is_differentiable(kind):
    module, features = optimiser(kind), (0.1 * draw(3, 2, WIDTH, CELLS, CELLS)).requires_grad_()
    filters = draw(2, WIDTH, 4, 4, seed=1).requires_grad_()
    iterates = module(filters, features, BOXES, 5)
    losses = torch.stack([module.objective(f, features, BOXES) for f in iterates])
    assert (losses.diff() < 0).all()
    iterates[-1].square().sum().backward()
    for tensor in (filters, features, *module.parameters()):
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
def test_steps_have_the_right_gradients(kind):
    module = optimiser(kind, regularisation=0.2)
    features, filters, boxes = draw(2, 1, 2, 3, 3), draw(1, 2, 2, 2, seed=1), BOXES[:2, :1] / 3
    names, parameters = zip(*module.named_parameters(), strict=True)

    def last(features: Tensor, filters: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, given, (filters, features, boxes, 2))[-1]

    given = [t.detach().requires_grad_() for t in (features, filters, *parameters)]
    assert torch.autograd.gradcheck(last, given)


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
def test_steps_are_single_precise_under_autocast(kind):
    module, features = optimiser(kind).float(), draw(3, 2, WIDTH, CELLS, CELLS).float()
    given = (draw(2, WIDTH, 4, 4, seed=1).float(), features, BOXES.float(), 2)
    with torch.autocast("cpu", torch.bfloat16):
        cast = module(*given)[-1]
    assert torch.equal(cast, module(*given)[-1])


def test_tables_begin_as_published():
    module = GaussNewton(STRIDE, 0.25 / 6 * 22)
    entries = {0: 1.0, 5: 0.86178, 10: 0.55154, 18: 0.14545, 27: 0.013065, 99: 0.0}
    assert {i: module.label[i].item() for i in entries} == pytest.approx(entries, abs=1e-5)
    assert module.mask[[0, 10, 20, 30, 99]].tolist() == pytest.approx([2.892, 2.285, 0, -2.285, -3], abs=1e-3)
    distance = torch.tensor([0.05, 9.9, 12.0, 1e6])
    ends = look_up(module.mask[None], distance / module.bin)[0]
    assert ends.tolist() == pytest.approx([module.mask[:2].mean().item(), *[module.mask[99].item()] * 3], abs=1e-5)


def test_the_optimisers_label_is_the_training_label():
    module, box = GaussNewton(STRIDE, 0.9), torch.tensor([[[146.0, 146, 60, 60]]])
    task = module._fixed_terms(torch.zeros(1, 1, 1, 22, 22), box, 4, None)
    torch.testing.assert_close(task.label, gaussian_labels(box, 23, STRIDE, 0.9), rtol=0, atol=2e-3)
    assert task.label[0, 0].argmax() == 11 * 23 + 11


# Losses


def test_losses_are_stable():
    scores = torch.tensor([[[1000.0, 0], [0, -1000]]], requires_grad=True)
    loss = kl_grid(scores, torch.tensor([[[1.0, 0], [0, 0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(0)
    assert scores.grad.isfinite().all()


def test_the_hinge_forgives_negative_background():
    labels = torch.tensor([0.0, 0.04, 0.04, 0.5, 1.0])
    assert lb_hinge(torch.tensor([-5.0, -1, 2, 0.5, 0]), labels).item() == pytest.approx((4 + 1) / 5)


# Pruning


def groups(network: nn.Module) -> list[Group]:
    """Returns the classifier's groups, and the backbone's stream as a group of its own."""
    classifier = network[0]
    stream = Group("stream", "stream", classifier.features.conv.in_channels, classifier.input_slices())
    return [g.with_prefix("0.") for g in (*classifier.groups(), stream)]


def test_features_keep_their_scale_when_zeros_are_cut():
    x = draw(2, 6, 4, 4)
    x[:, 3:] = 0
    torch.testing.assert_close(normalise(x, 4)[:, :3], normalise(x[:, :3], 4))
    assert normalise(x, 4).square().sum((1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
@pytest.mark.parametrize("options", [{}, {"norm": True}, {"blocks": 2}, {"blocks": 1, "norm": True, "size": 3}])
@torch.no_grad()
def test_masked_channels_are_cut_channels(kind, options):
    network = nn.Sequential(classifier(kind, **options))
    made, declared = network[0], groups(network)
    assert check_groups(network, declared)
    kept = (0, 2, 4)
    plan = Plan({g.name: kept for g in declared})
    maps, test = draw(6, INPUTS, CELLS, CELLS), draw(2, INPUTS, CELLS, CELLS, seed=1)

    def run(channels: slice | list[int]) -> list[Tensor]:
        features = made.features(maps[:, channels]).unflatten(0, (3, 2))
        filters = made.learn(features, BOXES)
        return [made.scores(made.features(test[:, channels])[None], f) for f in filters]

    gates = Gates(network, declared)
    gates.close(plan)
    with gates.folded():
        masked = run(slice(None))
    assert masked[0].abs().sum() > 0
    compact(network, declared, plan)
    assert made.features.conv.weight.shape[:2] == made.initialiser.conv.weight.shape[:2] == (3, 3)
    for a, b in zip(run(list(kept)), masked, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
