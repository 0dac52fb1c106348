"""Tests of DiMP's box regressor beyond the reference vectors: refinement, pruning, correlation, proposals."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from pruning.gates import Gates
from pruning.groups.checks import check_groups
from pruning.surgery import compact
from tests.pruning.networks import random_plan, shake
from trackers.dimp.pooling import bin_weights
from trackers.dimp.proposals import (
    from_relative,
    jittered_proposals,
    overlaps,
    place_proposals,
    sample_proposals,
    to_relative,
)
from trackers.dimp.refinement import ScoreGradients, bin_weight_gradients, refine
from trackers.dimp.regressor import BoxRegressor, Level, Modulation, cosines

TWO = [Level(10, 8, 6, 3, 5), Level(12, 16, 9, 1, 3)]
ONE = [Level(10, 8, 6, 3, 4)]
SIZE, DEPTH = 96, 7  # of the crop in pixels, channels of the classifier's features
HEADS = {"two levels": (TWO, 0), "one level": (ONE, 0), "one level that correlates": (ONE, 3)}
each_head = pytest.mark.parametrize("kind", HEADS)
each_space = pytest.mark.parametrize(("space", "length"), [("relative", 2e-2), ("default", 0.5)])


def small(kind: str = "two levels", seed: int = 0) -> BoxRegressor:
    """Returns a regressor of random weights and statistics, in float64 and evaluation mode."""
    levels, correlation = HEADS[kind]
    return shake(BoxRegressor(levels, 8, correlation).double().eval(), seed)


class Scene:
    """Returns maps, classifier features and boxes of one reference and of `frames` frames."""

    def __init__(self, head: BoxRegressor, frames: int = 1, boxes: int = 6, seed: int = 1):
        random = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        def maps(count: int) -> list[Tensor]:
            return [normal(count, v.channels, SIZE // v.stride, SIZE // v.stride).relu() for v in head.levels]

        cells = SIZE // head.levels[-1].stride
        self.known, self.seen = maps(1), maps(frames)
        self.known_code, self.seen_code = normal(1, DEPTH, cells, cells), normal(frames, DEPTH, cells, cells)
        self.box = torch.tensor([[30.0, 34, 28, 22]], dtype=torch.float64)
        self.boxes = self.box + 5 * normal(frames, boxes, 4)

    def scores(self, head: BoxRegressor) -> Tensor:
        modulation = head.modulation(self.known, self.box, self.known_code).repeat(len(self.boxes))
        return head.scores(head.features(self.seen), modulation, self.boxes, self.seen_code)

    def refine(self, head: BoxRegressor, steps: int, length: float, space: str) -> tuple[Tensor, Tensor]:
        modulation = head.modulation(self.known, self.box, self.known_code).repeat(len(self.boxes))
        return refine(head, head.features(self.seen), modulation, self.boxes, steps, length, space, self.seen_code)


def by_autograd(head: BoxRegressor, scene: Scene, steps: int, length: float, space: str) -> tuple[Tensor, Tensor]:
    """Refines boxes by autograd, as the steps are defined."""
    modulation = head.modulation(scene.known, scene.box, scene.known_code).repeat(len(scene.boxes))
    features, boxes = head.features(scene.seen), scene.boxes
    sizes, scores = boxes[:, :1, 2:], None
    at = to_relative(boxes, sizes) if space == "relative" else boxes
    for _ in range(steps):
        at = at.detach().requires_grad_()
        boxes = from_relative(at, sizes) if space == "relative" else at
        scores = head.scores(features, modulation, boxes, scene.seen_code)
        slope = torch.autograd.grad(scores.sum(), at)[0]
        unit = 1 if space == "relative" else boxes.detach()[..., 2:].repeat(1, 1, 2)
        at = at.detach() + length * slope * unit
    return (from_relative(at, sizes) if space == "relative" else at), scores.detach()


# Refinement


@each_head
@each_space
def test_refinement_is_what_autograd_finds(kind: str, space: str, length: float) -> None:
    head = small(kind)
    scene = Scene(head, frames=2)
    boxes, scores = by_autograd(head, scene, 8, length, space)
    with torch.inference_mode():
        mine, rated = scene.refine(head, 8, length, space)
    assert float((boxes - scene.boxes).abs().max()) > 0.1, "nothing moved"
    torch.testing.assert_close(mine, boxes, atol=1e-10, rtol=0)
    torch.testing.assert_close(rated, scores, atol=1e-10, rtol=0)


def test_refinement_builds_no_graph() -> None:
    head = small("one level that correlates")
    assert all(p.requires_grad for p in head.parameters())
    scene = Scene(head)
    with torch.no_grad():
        modulation = head.modulation(scene.known, scene.box, scene.known_code)
        features = head.features(scene.seen)
    slopes = ScoreGradients(head, features, modulation, scene.seen_code)
    assert not any(value.requires_grad for value in slopes(scene.boxes))


def test_small_steps_climb() -> None:
    head = small()
    scene = Scene(head)
    _, before = scene.refine(head, 1, 1e-3, "relative")
    _, after = scene.refine(head, 30, 1e-3, "relative")
    assert bool((after > before).all())


def test_refinement_can_be_exported() -> None:
    head = small()
    scene = Scene(head)

    class Frame(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, maps: list[Tensor], modulation: Modulation, boxes: Tensor) -> tuple[Tensor, Tensor]:
            return refine(self.head, self.head.features(maps), modulation, boxes, 3, 1e-2, "relative")

    with torch.no_grad():
        given = (scene.seen, head.modulation(scene.known, scene.box), scene.boxes)
        exported = torch.export.export(Frame(), given, strict=False).module()
        torch.testing.assert_close(exported(*given), Frame()(*given))


@each_space
def test_degenerate_boxes_stay_finite(space: str, length: float) -> None:
    head = small()
    scene = Scene(head)
    odd = [[20, 20, 0, 10], [20, 20, 10, 0], [20, 20, 0, 0], [20, 20, -5, 10], [500, 500, 20, 20], [-90, 9, 3, 200]]
    for boxes in (odd, odd[::-1]):  # the first one's size is the unit of all
        scene.boxes = torch.tensor([boxes], dtype=torch.float64)
        refined, scores = scene.refine(head, 5, length, space)
        assert bool(refined.isfinite().all())
        assert bool(scores.isfinite().all())


def test_unknown_space_is_an_error() -> None:
    head = small()
    with pytest.raises(ValueError, match="space=polar"):
        Scene(head).refine(head, 1, 1.0, "polar")


def test_slopes_of_bins_are_derivatives() -> None:
    low = torch.tensor([1.3, -4.0, 5.0, 7.9, 2.0], dtype=torch.float64, requires_grad=True)
    high = torch.tensor([4.6, 20.0, 5.0, 8.2, 1.0], dtype=torch.float64, requires_grad=True)
    weights = bin_weights(low, high, 3, 9)
    upstream = torch.randn(weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad((weights * upstream).sum(), (low, high))
    for mine, theirs in zip(bin_weight_gradients(low, high, weights), wanted, strict=True):
        torch.testing.assert_close((mine * upstream).sum((-2, -1)), theirs, atol=1e-12, rtol=0)


# The network


@each_head
def test_every_parameter_learns(kind: str) -> None:
    head = small(kind).train()
    scene = Scene(head, frames=2)
    modulation = head.modulation(
        [m.repeat(3, 1, 1, 1) * torch.rand(3, 1, 1, 1) for m in scene.known],
        scene.box.repeat(3, 1),
        scene.known_code.repeat(3, 1, 1, 1),
    )
    cells = None if modulation.cells is None else modulation.cells[:2]
    modulation = Modulation([v[:2] for v in modulation.vectors], cells)
    head.scores(head.features(scene.seen), modulation, scene.boxes, scene.seen_code).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_frames_do_not_mix() -> None:
    head = small("one level that correlates")
    scene = Scene(head, frames=3)
    together = scene.scores(head)
    for i in range(3):
        alone = copy.copy(scene)
        alone.seen, alone.seen_code = [m[i : i + 1] for m in scene.seen], scene.seen_code[i : i + 1]
        alone.boxes = scene.boxes[i : i + 1]
        torch.testing.assert_close(alone.scores(head)[0], together[i])


def test_half_precision_is_left_at_pooling() -> None:
    head = small().float()
    scene = Scene(head)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        modulation = head.modulation([m.float() for m in scene.known], scene.box.float())
        features = head.features([m.float() for m in scene.seen])
        scores = head.scores(features, modulation, scene.boxes.float())
        refined, _ = refine(head, features, modulation, scene.boxes.float(), 2, 1e-2, "relative")
    assert features[0].dtype == torch.bfloat16
    assert {v.dtype for v in (*modulation.vectors, scores, refined)} == {torch.float32}


def test_cosines() -> None:
    random = torch.Generator().manual_seed(0)
    cells, embedding = torch.randn(2, 4, 5, generator=random), torch.randn(2, 5, 3, 6, generator=random)
    found = cosines(cells, embedding)
    assert found.shape == (2, 4, 3, 6)
    one = torch.nn.functional.cosine_similarity(cells[1, 2], embedding[1, :, 2, 4], dim=0)
    torch.testing.assert_close(found[1, 2, 2, 4], one)
    wider = torch.cat([cells, torch.zeros(2, 4, 3)], 2), torch.cat([embedding, torch.zeros(2, 3, 3, 6)], 1)
    torch.testing.assert_close(cosines(*wider), found)
    assert float(cosines(torch.zeros(2, 4, 5), embedding).abs().max()) == 0


# Pruning


@pytest.mark.parametrize(("kind", "seed"), list(itertools.product(HEADS, range(6))))
@torch.no_grad()
def test_masked_is_compacted(kind: str, seed: int) -> None:
    head = small(kind, seed)
    groups = check_groups(head, head.groups())
    scene, plan = Scene(head, frames=2), random_plan(groups, seed)
    gates = Gates(head, groups)
    gates.close(plan)
    with gates.folded():
        masked = scene.scores(head), *scene.refine(head, 3, 1e-2, "relative")
    compact(head, groups, plan)
    torch.testing.assert_close((scene.scores(head), *scene.refine(head, 3, 1e-2, "relative")), masked)
    assert {g.name: g.size for g in head.groups()} == {g.name: len(plan.units(g)) for g in groups}


@each_head
@torch.no_grad()
def test_channels_of_the_backbone_can_go(kind: str) -> None:
    head = small(kind)
    scene = Scene(head)
    for i in range(len(head.levels)):
        for s in head.input_slices(i):
            head.get_parameter(s.path)[:, ::2] = 0
    wanted = scene.scores(head)
    for i in range(len(head.levels)):
        for s in head.input_slices(i):
            convolution = head.get_submodule(s.path.removesuffix(".weight"))
            convolution.weight = torch.nn.Parameter(convolution.weight[:, 1::2])
        scene.known[i], scene.seen[i] = scene.known[i][:, 1::2], scene.seen[i][:, 1::2]
    torch.testing.assert_close(scene.scores(head), wanted)


# Proposals


def test_relative_coordinates_go_there_and_back() -> None:
    boxes, sizes = torch.tensor([[10.0, -20, 30, 40], [5, 6, 0.5, 80]]), torch.tensor([[30.0, 40], [7, 8]])
    torch.testing.assert_close(from_relative(to_relative(boxes, sizes), sizes), boxes)
    wanted = torch.tensor([25 / 30, 0, math.log(30), math.log(40)])
    torch.testing.assert_close(to_relative(boxes, sizes)[0], wanted)


def test_sampled_proposals_are_as_wide_as_said_and_weigh_one() -> None:
    box, sigmas = torch.tensor([[[40.0, 50, 20, 30]]], dtype=torch.float64), [(0.05, 0.1), (0.5, 0.3)]
    torch.manual_seed(0)
    made, density, truth = sample_proposals(box, 40000, sigmas)
    assert made.shape == (1, 1, 40000, 4)
    assert density.shape == truth.shape == (1, 1, 40000)
    offsets = to_relative(made, box[..., None, 2:]) - to_relative(box, box[..., 2:])[..., None, :]
    wanted = [((0.05**2 + 0.5**2) / 2) ** 0.5] * 2 + [((0.1**2 + 0.3**2) / 2) ** 0.5] * 2
    torch.testing.assert_close(offsets[0, 0].std(0), torch.tensor(wanted, dtype=torch.float64), atol=0, rtol=0.02)
    # Importance sampling of the true density must give its integral, 1.
    assert float((truth / density).mean()) == pytest.approx(1, abs=0.03)


def test_the_truth_has_the_first_width() -> None:
    box, picks, noise = torch.tensor([1.0, 2, 3, 4]), torch.zeros(5, dtype=torch.long), torch.zeros(5, 4)
    *_, first = place_proposals(box, picks, noise, [(0.1, 0.1), (1, 1)])
    *_, wider = place_proposals(box, picks, noise, [(0.2, 0.2), (1, 1)])
    torch.testing.assert_close(first, 16 * wider)


def test_jittered_proposals_overlap() -> None:
    boxes = torch.tensor([[[10.0, 20, 30, 40], [0, 0, 200, 2]], [[-5, 3, 1, 1], [9, 9, 60, 50]]])
    torch.manual_seed(0)
    made, iou = jittered_proposals(boxes, 200, (0.01, 0.3, 2.0), 0.4)
    assert made.shape == (2, 2, 200, 4)
    assert float(iou.min()) >= 0.4
    assert float(iou.min()) < 0.6
    torch.testing.assert_close(iou, overlaps(made, boxes[:, :, None]))
    assert float((iou < 1).float().mean()) > 0.9, "boxes were given up"
    assert bool((made[..., 2:] > 0).all())
