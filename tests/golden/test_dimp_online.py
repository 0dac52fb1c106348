"""What SuperDiMP does around its networks against the original: crops, first samples, localisation, memory."""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np

from datamodules.augmentation import jitter
from trackers.crops import CropSpec, Window
from trackers.dimp.crops import cut_patch, reference_crop, replicated_crop, training_side, training_window
from trackers.dimp.first_frame import FirstFrame, first_frame_samples, shifted_boxes
from trackers.dimp.localisation import Localisation, Thresholds, keep_inside, localise
from trackers.dimp.memory import SampleMemory
from trackers.runtimes.runtime import NumPyRuntime

from .cases import Case, each
from .compare import agrees, fits
from .dimp import inputs

# The original's crops come in two forms, of which the vectors ask for one: `floor`, with which the published weights
# were made; in `head` windows end at half pixels that are not the ones taken.
OF_TRACKER = ("patch_*/floor", "border_*/floor", "mean_*/floor", "coords/floor", "sample_*/floor")
OF_TRAINING = ("train_*", "square_crop_side", "jittered", "crop_box", "box_in_crop")
NOT_OURS = ("*/head",)


class _Plain(NumPyRuntime):
    """Runtime that holds arrays and has no graph."""

    def run(self, graph: str, **inputs: Any) -> dict[str, Any]:
        raise NotImplementedError


@each("dimp", "crop")
def test_every_array_is_compared(case: Case) -> None:
    left = [name for name in case.stored if not fits(name, (*OF_TRACKER, *OF_TRAINING, *NOT_OURS))]
    assert left == []


@each("dimp", "crop")
def test_the_tracker_looks_at_the_same_crops(case: Case) -> None:
    picture, mine, reported = inputs(case)["picture"], {}, []
    for k, about in enumerate(case.config["tracker_crops"]):
        pixels, corners = tracker_crop(picture, about)
        reported.append((corners, about["output"]))
        channels = pixels.transpose(2, 0, 1).astype(np.float64)
        every = 5 if max(about["output"]) < 100 else 22
        mine |= {f"patch_{k}/floor": channels[:, ::every, ::every], f"mean_{k}/floor": channels.mean((1, 2))}
        if about["output"][0] == about["output"][1]:
            mine[f"border_{k}/floor"] = np.stack(
                [channels[at][:, ::16] for at in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1])]
            )
    corners, outputs = (np.array(values) for values in zip(*reported, strict=True))
    mine |= {
        "coords/floor": corners,
        "sample_pos/floor": (corners[:, :2] + corners[:, 2:] - 1) / 2,
        "sample_scale/floor": np.sqrt(((corners[:, 2:] - corners[:, :2]) / outputs).prod(1)),
    }
    agrees(case, mine, *OF_TRACKER)


@each("dimp", "crop")
def test_the_same_crops_are_learnt_from(case: Case) -> None:
    given, config = inputs(case), case.config
    mine: dict[str, Any] = {"jittered": [], "crop_box": [], "box_in_crop": []}
    for k, about in enumerate(config["training_crops"]):
        box, size = np.array(about["box"], float), about["output"]
        around = jittered(box, config["jitter"][about["jitter"]], given[f"randn_{k}"], given[f"rand_{k}"])
        inside = about["max_scale_change"] if about["mode"] == "inside_major" else None
        full, factor = given["train_picture"], about["search_area_factor"]
        window = training_window(full.shape, around, factor, size, inside, "reference")
        picture = replicated_crop(full, window, size, "reference")
        borders = [picture[at][::16] for at in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])]
        mine |= {
            f"train_patch_{k}": picture[::32, ::32],
            f"train_mean_{k}": picture.mean((0, 1)),
            f"train_border_{k}": np.stack(borders),
        }
        mine["jittered"].append(around)
        mine["crop_box"].append((window.left, window.top, window.side, window.side))
        mine["box_in_crop"].append(window.relative(box) * size)
    mine["square_crop_side"] = [training_side(s, s, 6.0, 352, "reference") for s in config["square_boxes"]]
    agrees(case, mine, *OF_TRAINING)


@each("dimp", "augmentation")
def test_the_first_frame_gives_the_same_samples(case: Case) -> None:
    given, config = inputs(case), case.config
    x, y, w, h = config["box"]
    size = config["image_sample_size"]
    settings, expansion = (
        FirstFrame(random_shift=config["random_shift_factor"]),
        config["augmentation_expansion_factor"],
    )
    wide = round(expansion * size)
    side = expansion * config["search_area_scale"] * (w * h) ** 0.5
    pixels, window = reference_crop(given["picture"], (x + w / 2, y + h / 2), side, wide, None, first=True)
    shift = given["shift"]

    def uniform(rows: int, columns: int) -> np.ndarray:
        assert shift.shape == (rows, columns)
        return shift

    samples, shifts = first_frame_samples(pixels, size, uniform, settings)
    samples = samples.transpose(0, 3, 1, 2).astype(np.float64)
    box = window.relative(config["box"]) * wide - np.array([1, 1, 0, 0]) * (wide - size) / 2
    turned = len(settings.angles)
    mine = {
        "patches": samples[:-turned, :, ::16, ::16],
        "means": samples[:-turned].mean((2, 3)),
        "rotated": samples[-turned:, :, ::16, ::16],
        "rotated_means": samples[-turned:].mean((2, 3)),
        "shifts": shifts,
        "boxes": shifted_boxes(box, shifts, settings),
        "target_scale": window.side / wide,
    }
    agrees(case, mine)


@each("dimp", "localize_memory")
def test_the_target_is_found_where_the_original_finds_it(case: Case) -> None:
    config, noise = case.config, inputs(case)["noise"]
    scale, origin = config["sample_scale"], np.array(config["sample_pos"])
    size = config["support_size"]
    stride = size / (config["map_size"] - 1)
    rows: dict[str, list[Any]] = {name: [] for name in ("flag", "translation", "max_score", "new_pos", "box")}
    for made, base in zip(config["score_maps"], noise, strict=True):
        target = np.array(made["target_size"])
        found = localised(made, base, scale * stride, Thresholds(**renamed(config["thresholds"])))
        translation = np.array(found.displacement) * stride * scale
        new = np.array(keep_inside(tuple(origin + translation), tuple(target), (0.0, 0.0, *config["image_size"])))
        extent = scale * size
        window = Window(origin[1] + 0.5 - extent / 2, origin[0] + 0.5 - extent / 2, extent)
        box = window.relative((*(new + 0.5 - target / 2)[::-1], *target[::-1])) * size
        for name, value in zip(rows, (found.flag, translation, found.score, new, box), strict=True):
            rows[name].append(value)
    agrees(case, rows, *rows)


@each("dimp", "localize_memory")
def test_samples_are_replaced_and_weighed_the_same(case: Case) -> None:
    about = case.config["memory"]
    size, initial = about["memory"], about["initial"]
    memory = SampleMemory(_Plain(), np.zeros((initial, 1, 1, 1)), np.zeros((initial, 4)), size, about["minimum"])
    slots, weights = [], []
    for j in range(1, about["updates"] + 1):
        hard = j % about["hard_negative_every"] == 0
        rate = about["hard_negative_learning_rate" if hard else "learning_rate"]
        slots.append(memory.add(np.zeros((1, 1, 1, 1)), np.zeros(4), rate))
        if j in about["report"]:
            weights.append(memory.weights.copy())
    agrees(case, {"replaced": slots, "sample_weights": np.stack(weights)}, "replaced", "sample_weights")


@each("dimp", "localize_memory")
def test_every_array_of_the_tracker_is_compared(case: Case) -> None:
    compared = {"flag", "translation", "max_score", "new_pos", "box", "replaced", "sample_weights"}
    assert set(case.stored) == compared


def tracker_crop(picture: np.ndarray, about: Mapping[str, Any]) -> tuple[np.ndarray, tuple[float, ...]]:
    """A described crop, and its top, left, bottom and right."""
    sides, inside = about["sample_size"], about["max_scale_change"]
    if about["mode"] == "inside":  # SuperDiMP does not have it: the window shrinks until all of it is in the picture
        largest = np.float32(sides) / np.float32(picture.shape[:2])
        sides, inside = np.trunc(np.float32(sides) / max(largest.max(), 1)).tolist(), 1.0
    elif about["mode"] == "replicate":
        inside = None
    if about["output"][0] == about["output"][1] and sides[0] == sides[1]:
        row, column = about["pos"]
        pixels, window = reference_crop(picture, (column + 0.5, row + 0.5), sides[0], about["output"][0], inside)
        return pixels, (window.top, window.left, window.top + window.side, window.left + window.side)
    pixels, patch = cut_patch(picture, tuple(about["pos"]), tuple(sides), tuple(about["output"]), inside)
    return pixels, (*patch.low, *patch.high)


def jittered(box: np.ndarray, about: Mapping[str, float] | str, normal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """A box after our own jitter with these random numbers."""
    if isinstance(about, str):  # none
        return box
    rng = mock.Mock(spec=np.random.Generator)
    rng.standard_normal.return_value, rng.random.return_value = normal, uniform
    return jitter(box, CropSpec(1, 1.0, about["centre"], about["scale"]), rng)


def localised(made: Mapping[str, Any], noise: np.ndarray, cell: float, settings: Thresholds) -> Localisation:
    """What is found in a made-up map whose cells have this many pixels of the picture."""
    scores = 0.02 * noise
    for row, column, value in made["peaks"]:
        scores[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = value / 2
        scores[row, column] = value
    target, previous = (tuple(np.array(made[name]) / cell) for name in ("target_size", "offset"))
    return localise(scores, target, previous, settings)


def renamed(thresholds: Mapping[str, float]) -> dict[str, float]:
    return {"not_found" if name == "target_not_found" else name: value for name, value in thresholds.items()}
