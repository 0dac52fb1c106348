"""Online rules of STARK: one or two templates, the second of which is updated, and the box between two corners."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from trackers.rules import Answer, Box, Crop, Online, OnlineRules
from trackers.runtimes.runtime import Array, Runtime


@dataclass(frozen=True)
class Updating(Online):
    """Settings of STARK-ST's online loop.

    Attributes:
        update_interval: frames between two possible updates of the second template.
        update_threshold: score above which the second template is updated.
    """

    update_interval: int
    update_threshold: float


class TemplateTokens(NamedTuple):
    """Tokens of one template or of several.

    Attributes:
        features, position: (1, N, C), arrays of the runtime.
        padded: tokens that show padding, (1, N) bool.
    """

    features: Array
    position: Array
    padded: np.ndarray


@dataclass(eq=False)
class STARKState:
    """Tracking state of one target.

    Attributes:
        templates: tokens of each template, oldest first.
        joined: tokens of all templates.
        unpadded: position embeddings of a crop without padding, by the name of their graph.
        frame: number of frames since the first one.
    """

    templates: list[TemplateTokens]
    joined: TemplateTokens
    unpadded: dict[str, Array] = field(default_factory=dict)
    frame: int = 0


@dataclass(frozen=True)
class STARKRules(OnlineRules):
    """Online rules of STARK. `template.count` is the number of templates.

    Attributes:
        online: settings of the loop.
        stride: pixels per cell of the network's features.
        reads_last_box: whether corners are weighted by the last box.
    """

    online: Updating
    stride: int
    reads_last_box: bool

    lockstep = True

    def start(self, runtime: Runtime, template: Crop) -> STARKState:
        """Returns a state with the tokens of the first frame's template, once per template."""
        unpadded: dict[str, Array] = {}
        tokens = self._embed(runtime, template, unpadded)
        templates = [tokens] * self.template.count
        return STARKState(templates, _joined(runtime, templates), unpadded)

    def step(self, runtime: Runtime, state: STARKState, search: Crop) -> Answer:
        """Returns the box and a score: the probability of the class head, or else the mean peak of the corner maps."""
        return self.steps(runtime, [state], [search])[0]

    def steps(self, runtime: Runtime, states: Sequence[STARKState], searches: Sequence[Crop]) -> list[Answer]:
        """Returns what `step` does for each of several targets, in one batched forward."""
        for state in states:
            state.frame += 1
        padded = [self._padded_cells(crop) for crop in searches]
        positions = [
            self._position(runtime, "search_position", cells, state.unpadded)
            for cells, state in zip(padded, states, strict=True)
        ]
        inputs: dict[str, Any] = {
            "pixels": np.stack([crop.pixels for crop in searches]),
            "position": runtime.concatenate(positions),
            "padded": np.stack(padded).reshape(len(states), -1),
            "template": runtime.concatenate([state.joined.features for state in states]),
            "template_position": runtime.concatenate([state.joined.position for state in states]),
            "template_padded": np.concatenate([state.joined.padded for state in states]),
        }
        if self.reads_last_box:
            inputs["last_box"] = np.array([crop.target for crop in searches], np.float32)
        found = {name: runtime.numpy(value) for name, value in runtime.run("search", **inputs).items()}
        scores, evidence = found["score"].tolist(), found["evidence"].tolist()
        return [Answer(*answer) for answer in zip(found["box"], scores, evidence, strict=True)]

    def observe(self, runtime: Runtime, state: STARKState, image: np.ndarray, box: Box, score: float) -> None:
        """Replaces the last template every `update_interval` frames if the score is above `update_threshold`."""
        due = state.frame % self.online.update_interval == 0
        if self.template.count > 1 and due and score > self.online.update_threshold:
            tokens = self._embed(runtime, self.crop(image, box, self.template)[0], state.unpadded)
            state.templates = [*state.templates[:-1], tokens]
            state.joined = _joined(runtime, state.templates)

    def _embed(self, runtime: Runtime, template: Crop, unpadded: dict[str, Array]) -> TemplateTokens:
        """Returns the tokens of a template crop."""
        padded = self._padded_cells(template)
        position = self._position(runtime, "template_position", padded, unpadded)
        features = runtime.run("template", pixels=template.pixels[None])["features"]
        return TemplateTokens(features, position, padded.reshape(1, -1))

    def _position(self, runtime: Runtime, graph: str, padded: np.ndarray, unpadded: dict[str, Array]) -> Array:
        """Returns position embeddings (1, N, C) for padded cells (F, F). Those without padding are computed once."""
        if not padded.any() and graph in unpadded:
            return unpadded[graph]
        position = runtime.run(graph, padded=padded[None])["position"]
        if not padded.any():
            unpadded[graph] = position
        return position

    def _padded_cells(self, crop: Crop) -> np.ndarray:
        """Returns the cells (F, F) bool whose first row or column of pixels shows padding."""
        rows, columns = crop.padding[:, :: self.stride]
        return rows[:, None] | columns


def _joined(runtime: Runtime, templates: Sequence[TemplateTokens]) -> TemplateTokens:
    """Returns the tokens of all templates."""
    features, position, padded = zip(*templates, strict=True)
    return TemplateTokens(runtime.concatenate(features, 1), runtime.concatenate(position, 1), np.concatenate(padded, 1))
