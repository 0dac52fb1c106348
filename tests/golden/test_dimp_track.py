"""SuperDiMP against the original implementation: tracking a made-up video, all randomness pinned."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from trackers.dimp.following import DiMPRules
from trackers.online import OnlineTracker
from trackers.runtimes.runtime import Runtime

from .cases import Case, each
from .compare import agrees
from .dimp import build, inputs

pytestmark = pytest.mark.usefixtures("two_threads")

# The original's present code divides integers so that windows get halves of pixels ("head"); its weights and results
# come from the form that does not.
FORM = "floor"


@pytest.fixture
def plain_convolutions() -> Iterator[None]:
    """OneDNN's may round more than the tolerance of a whole track allows: on AVX2 a hundred times as much as these."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("plain_convolutions")
@each("dimp", "track")
def test_tracking_is_the_same(case: Case) -> None:
    agrees(_exact(case), tracked(case), f"*/{FORM}")


def tracked(case: Case) -> dict[str, Any]:
    """Returns all arrays that the reference stores of a video."""
    given, tracker = inputs(case), build(case)
    _configure(case, tracker)
    online = OnlineTracker(tracker)
    rules, runtime = online.loop.rules, online.loop.runtime
    with _pinned(given), _watched(runtime, 1 + tracker.online.boxes) as found:
        frames = video(case, given)
        online.init(next(frames), tuple(case.config["init_box"]))
        state = online.target.memory
        first = {
            "init_boxes": state.memory.boxes[: len(state.memory)].copy(),
            "init_filter": state.filter[0, ::16].clone(),
        }
        boxes, windows, scales, flags = [], [], [], []
        for frame in frames:
            window = rules.crop(frame, online.box, tracker.search)[1]
            windows.append([window.top, window.left, window.top + window.side, window.left + window.side])
            boxes.append(online.update(frame)[0])
            flags.append(state.flag)
            scales.append(np.sqrt(boxes[-1][2] * boxes[-1][3]) * tracker.search.factor / tracker.search.size)
    arrays = first | {
        "boxes": boxes,
        "coords": windows,
        "target_scale": scales,
        "flag": flags,
        "scores": np.stack([f["scores"] for f in found]),
        "max_score": [f["scores"].max() for f in found],
        "refined": np.stack([f["refined"] for f in found]),
        "refined_scores": np.stack([f["rated"] for f in found]),
        "last_filter": state.filter[0, ::16],
        "modulation3": state.reference["vector0"][0],
        "modulation4": state.reference["vector1"][0],
        "memory_weights": state.memory.weights,
        "memory_boxes": state.memory.boxes[:24],
    }
    return {f"{name}/{FORM}": value for name, value in arrays.items()}


def _exact(case: Case) -> Case:
    """Returns the case with the tighter of its tolerances, if there are two: our rotations are exactly bilinear."""
    about = case.about | {"tolerance": case.about["tolerance"] | case.about.get("tolerance_exact_rotation", {})}
    return Case(case.path, about)


def _configure(case: Case, tracker: Any) -> None:
    """Fails unless the published settings are the case's, but for its overrides, which are set."""
    asked, online = case.config["parameters"], tracker.online
    refinement = tracker.network.refinement
    assert {
        "image_sample_size": tracker.search.size,
        "search_area_scale": tracker.search.factor,
        "border_mode": "replicate" if tracker.search.inside is None else "inside_major",
        "patch_max_scale_change": tracker.search.inside,
        "box_refinement_space": refinement["space"],
        "box_refinement_iter": refinement["steps"],
        "box_refinement_step_length": refinement["step_length"],
        "target_not_found_threshold": online.thresholds.not_found,
        "score_preprocess": "softmax" if online.softmax else "none",
    } == asked
    names = {"train_skipping": "update_interval", "box_jitter_sz": "size_jitter", "box_jitter_pos": "centre_jitter"}
    changes = {names[name]: value for name, value in case.config["overrides"].items()}
    tracker.online = replace(online, **changes)


@contextmanager
def _pinned(given: dict[str, np.ndarray]) -> Iterator[None]:
    """Random numbers are the case's, in the order in which they are asked for."""
    frames = sorted((n for n in given if n.startswith("jitter_")), key=lambda n: int(n.split("_")[1]))
    queue = [given[n] for n in ("shift", "dropout", *frames)]

    def uniform(rows: int, columns: int) -> np.ndarray:
        number = next(i for i, numbers in enumerate(queue) if numbers.shape == (rows, columns))
        return queue.pop(number)

    with mock.patch.object(DiMPRules, "random_numbers", return_value=uniform):
        yield


@contextmanager
def _watched(runtime: Runtime, boxes: int) -> Iterator[list[dict[str, np.ndarray]]]:
    """Notes the score map and the refined boxes of every frame; zeros where nothing was refined."""
    found: list[dict[str, np.ndarray]] = []
    run = runtime.run

    def noted(graph: str, **arrays: Any) -> dict[str, Any]:
        result = run(graph, **arrays)
        if graph == "search":
            scores = result["scores"].numpy()
            found.append({"scores": scores, "refined": np.zeros((boxes, 4)), "rated": np.zeros(boxes)})
        elif graph == "refine":
            found[-1] |= {"refined": result["boxes"].numpy(), "rated": result["ratings"].numpy()}
        return result

    with mock.patch.object(runtime, "run", noted):
        yield found


def video(case: Case, given: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """A target of blocks, and at last a second one, on a still background."""
    blocks = np.where(given["blocks"] > 0, 230, 25).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    for target, distractor in zip(case.config["target_xy"], case.config["distractor_xy"], strict=True):
        frame = given["background"].copy()
        for x, y in (place for place in (target, distractor) if place is not None):
            frame[y : y + blocks.shape[0], x : x + blocks.shape[1]] = blocks
        yield frame
