"""The pooling, classifier, labels and losses of SuperDiMP against the reference."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trackers.contents import load_strictly
from trackers.dimp.classifier import Classifier
from trackers.dimp.labels import centre_offsets, gaussian_labels, label_density
from trackers.dimp.losses import kl_grid, kl_regression, lb_hinge
from trackers.dimp.names import our_name
from trackers.dimp.optimisers import GaussNewton, look_up
from trackers.dimp.pooling import precise_roi_pool

from .cases import Case, each
from .compare import agrees, fits
from .dimp import inputs, weights


def tensors(case: Case, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value, dtype=dtype) for name, value in inputs(case).items()}


def arrays(values: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.detach().numpy() for name, value in values.items()}


# Pooling


@each("dimp", "prroipool")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling(case, dtype):
    given, mine = tensors(case, dtype), {}
    for k, pool in enumerate(case.config["pools"]):
        features, boxes = given["features"].clone().requires_grad_(), given["boxes"].clone().requires_grad_()
        # Boxes of all images on each image, of which those of its own are taken.
        each_image = boxes[:, 1:].expand(len(features), -1, -1)
        # Ours pools to squares. The means over bins of equal size are exact, so their means are those of wider bins.
        rows, columns = pool["pooled_height"], pool["pooled_width"]
        side = math.lcm(rows, columns)
        pooled = precise_roi_pool(features, each_image, side, pool["spatial_scale"])
        pooled = pooled.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1)).mean((-3, -1))
        pooled = pooled[boxes[:, 0].long(), torch.arange(len(boxes))]
        (pooled * given[f"upstream_{k}"]).sum().backward()
        mine[f"pooled_{k}"] = pooled
        mine[f"grad_boxes_{k}"] = boxes.grad[:, 1:]
        mine[f"grad_features_{k}"] = features.grad[:, ::2, ::2, ::2]
    if dtype == torch.float64:
        case = replace(case, about=case.about | {"tolerance": {"*": case.about["tolerance_float64"]}})
    agrees(case, arrays(mine))


# Classifier


@pytest.mark.slow
@each("dimp", "classifier")
def test_classifier(case):
    config, shapes = case.config, case.about["checkpoint"]
    width, channels = shapes["classifier.feature_extractor.0.weight"][:2]
    size, stride = case.about["arrays"]["filters"][-1], config["feature_stride"]
    optimiser = GaussNewton(
        stride,
        config["label_sigma_factor"] * config["feature_size"],
        bins=config["num_dist_bins"],
        bin=config["bin_displacement"],
        min_regularisation=config["min_filter_reg"],
        alpha_eps=config["alpha_eps"],
    )
    classifier = Classifier(channels, width, size, stride, optimiser, config["iterations"])
    load_strictly(classifier, weights(case, "classifier."), case.path)
    given, mine = tensors(case), {}

    def features(frames: str) -> Tensor:
        maps = (given["base"] + 0.5 * given[f"{frames}_noise"]).clamp_min(0)
        return classifier.features(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])

    train, test, boxes = features("train"), features("test"), given["train_boxes"]
    filters = classifier.learn(train, boxes)
    scores = [classifier.scores(test, f) for f in filters]
    cells, sigma = scores[0].shape[-1], config["label_sigma_factor"] * config["feature_size"]
    labels = gaussian_labels(given["test_boxes"], cells, stride, sigma, 0.5 * (size % 2))
    losses = [lb_hinge(s, labels, config["hinge_threshold"]) for s in scores]
    share = config["loss_weights"]
    total, _, parts, *_ = share["intermediate"].split()  # "400 / 4 each"
    factors = [share["initial"], *[float(total) / float(parts)] * (len(losses) - 2), share["final"]]
    loss = sum(f * part for f, part in zip(factors, losses, strict=True))
    loss.backward()
    mine["clf_train_slice"] = train[0, :, ::64, ::6, ::6]
    mine["filters"] = torch.stack(filters)[:, :, ::32]
    mine["filter_norms"] = torch.stack(filters).flatten(2).norm(dim=-1)
    mine["optimizer_losses"] = torch.stack([optimiser.objective(f, train, boxes) for f in filters])
    mine["train_scores"] = torch.stack([classifier.scores(train, f) for f in (filters[0], filters[-1])])
    mine["test_scores"], mine["label"] = torch.stack(scores), labels
    mine["test_losses"], mine["total_loss"] = torch.stack(losses), loss
    parameters = dict(classifier.named_parameters(prefix="classifier"))
    for name in case.stored:
        kind, _, official = name.partition("/")
        if kind in ("grad", "grad_norm"):
            gradient = parameters[our_name(official)].grad
            mine[name] = gradient.norm() if kind == "grad_norm" else gradient
    found = re.search(r"after (\d+) further .* \[(.*)\]", case.about["outputs"]["filters_weighted"])
    more, frame_weights = int(found[1]), torch.tensor([float(w) for w in found[2].split(",")])
    with torch.inference_mode():
        spread = frame_weights[:, None].expand(boxes.shape[:2])
        mine["filters_weighted"] = optimiser(filters[-1], train, boxes, more, spread)[-1][:, ::32]
    agrees(case, arrays(mine))


# Labels and losses


@each("dimp", "proposals_labels")
def test_labels_and_losses(case):
    config, given, mine = case.config, tensors(case), {}
    stored = {name: torch.from_numpy(value) for name, value in case.stored.items()}
    sigma, stride = config["label_sigma_factor"] * config["feature_size"], config["stride"]
    patterns = ("label_*", "density_*", "lut_*", "kl_*", "lb_hinge")
    for name in filter(lambda n: re.search(r"_k\d+$", n), case.stored):
        kind, kernel = name.split("_k")
        cells, offset = config["feature_size"] + 1 - int(kernel) % 2, 0.5 * (int(kernel) % 2)
        place = (given["label_boxes"], cells, stride)
        if kind == "label":
            mine[name] = gaussian_labels(*place, sigma, offset)
        elif kind.startswith("density"):
            mine[name] = label_density(*place, sigma, offset, normalise="norm" in kind)
        elif kind == "lut":
            dx, dy = centre_offsets(*place, offset).square().unbind(-2)
            distance = (dy[..., :, None] + dx[..., None, :]).sqrt()
            step = float(re.search(r"knots every ([\d.]+) cell", config["lut"])[1])
            mine[name] = look_up(given["table"], distance / step).transpose(0, 1)[..., ::2, ::2]
    scores = given["kl_scores"].requires_grad_()
    mine["kl_regression"] = kl_regression(scores, stored["proposal_density"], stored["gt_density"])
    mine["kl_regression"].backward()
    mine["kl_scores_grad"] = scores.grad
    mine["kl_grid"] = kl_grid(given["map_scores"], stored["density_norm_k4"])
    mine["lb_hinge"] = lb_hinge(given["map_scores"], stored["label_k4"], config["hinge_threshold"])
    assert all(fits(name, patterns) for name in mine)
    agrees(case, arrays(mine), *patterns)
