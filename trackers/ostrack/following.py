"""Online rules of OSTrack: one template that never changes, and the cell of the highest response."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trackers.rules import Answer, Crop, OnlineRules
from trackers.runtimes.runtime import Array, Runtime


@dataclass(frozen=True)
class OSTrackRules(OnlineRules):
    """Online rules of OSTrack. The state is the tokens of the template, an array of the runtime.

    Attributes:
        reads_last_size: whether the response depends on the size of the last box.
    """

    reads_last_size: bool

    lockstep = True

    def start(self, runtime: Runtime, template: Crop) -> Array:
        """Returns the tokens (1, Nz, C) of the template."""
        return runtime.run("template", pixels=template.pixels[None])["tokens"]

    def step(self, runtime: Runtime, state: Array, search: Crop) -> Answer:
        """Returns the box at the highest response, that response, and the highest score as evidence."""
        return self.steps(runtime, [state], [search])[0]

    def steps(self, runtime: Runtime, states: Sequence[Array], searches: Sequence[Crop]) -> list[Answer]:
        """Returns what `step` does for each of several targets, in one batched forward."""
        inputs = {"template": runtime.concatenate(states), "pixels": np.stack([crop.pixels for crop in searches])}
        if self.reads_last_size:
            inputs["last_size"] = np.array([crop.target[2:] for crop in searches], np.float32)
        found = {name: runtime.numpy(value) for name, value in runtime.run("search", **inputs).items()}
        scores, evidence = found["response"].tolist(), found["peak"].tolist()
        return [Answer(*answer) for answer in zip(found["box"], scores, evidence, strict=True)]
