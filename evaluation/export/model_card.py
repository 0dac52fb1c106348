"""The model card of a tracker: README.md of a folder on a model hub, with metadata at its head and words below."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

LIBRARY = "light-weight-trackers"
CARD = """---
{metadata}---

# {name}

A tracker of single objects in video, made with {library}. {origin}It has {params:,} parameters and needs
{macs:.3g} G multiply-accumulates a frame. Kind of network: {family}.

## How to use it

```python
import cv2
from trackers import load_tracker
tracker, video = load_tracker("{folder}"), cv2.VideoCapture("walk.mp4")
tracker.init(video.read()[1][..., ::-1], (40, 30, 32, 24))  # the first frame, RGB; x, y, width, height of the object
ok, frame = video.read()
while ok:
    box, score = tracker.update(frame[..., ::-1])
    ok, frame = video.read()
```

`"{folder}"` is this folder. `pip install .` in a checkout of {library} installs `trackers`.

## Scores

{scores}

## Training

{training}

## Files

`model.safetensors` holds the weights, and in its header all that builds the tracker. `config.json` repeats the recipe,
the plan of the cut and the metrics as text; `load_tracker` refuses a folder in which both differ. Loading runs no code
of these files.
"""


@dataclass(frozen=True)
class ModelCard:
    """What a model card says.

    Attributes:
        name: of the tracker.
        folder: name of the folder, for the example.
        model_type: name of the tracker's class, in lower case.
        family: e.g. "transformer".
        params, macs: live parameters, and multiply-accumulates of a frame.
        scores: report of each protocol by benchmark; may be empty.
        training: what is known of the training; may be empty.
        licence: identifier of a licence on the hub.
    """

    name: str
    folder: str
    model_type: str
    family: str
    params: int
    macs: int
    scores: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    licence: str

    def text(self) -> str:
        """Returns the content of README.md."""
        return CARD.format(
            metadata=OmegaConf.to_yaml(OmegaConf.create(self._metadata())),
            name=self.name,
            folder=self.folder,
            family=self.family,
            params=self.params,
            macs=self.macs / 1e9,
            library=LIBRARY,
            origin=self._origin(),
            scores=self._scores(),
            training=self._training(),
        )

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "license": self.licence,
            "library_name": LIBRARY,
            "tags": ["visual-object-tracking", "single-object-tracking", "pruning", self.model_type],
        }
        if self.scores:
            task = {"type": "visual-object-tracking", "name": "single-object tracking"}
            results = [
                {"task": task, "dataset": {"type": name, "name": name}, "metrics": _metrics(report)}
                for name, report in self.scores.items()
            ]
            metadata["model-index"] = [{"name": self.name, "results": results}]
        return metadata

    def _origin(self) -> str:
        ratio = self.training.get("ratio")
        if ratio is None or ratio == 1:
            return ""
        return f"Pruning kept the fraction {ratio:g} of its parent. "

    def _scores(self) -> str:
        if not self.scores:
            return "The file holds no scores."
        lines = ["| benchmark | protocol | score | value | sequences |", "|---|---|---|---:|---:|"]
        for name, report in self.scores.items():
            label, count = report.get("protocol", "not known"), report.get("sequences", "not known")
            lines += [f"| {name} | {label} | {score} | {report[score]:.3f} | {count} |" for score in scores_in(report)]
        return "\n".join(lines)

    def _training(self) -> str:
        if not self.training:
            return "The file does not say on which data the tracker was trained."
        return "\n".join(f"- {name}: {value}" for name, value in self.training.items())


def scores_in(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of a protocol's report, without the label and the counts beside them."""
    return {name: value for name, value in report.items() if isinstance(value, float)}


def _metrics(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    protocol = report.get("protocol", "protocol not known")
    found = scores_in(report).items()
    return [{"type": name, "name": f"{name} ({protocol})", "value": round(value, 4)} for name, value in found]
