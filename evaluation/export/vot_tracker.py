"""Runs our trackers in the VOT toolkit, as a process that speaks the toolkit's protocol TraX.

lwt-vot /models/child.safetensors
lwt-vot /models/child.safetensors --device cuda
lwt-vot /models/child.safetensors --runtime onnx --threads 2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.frames.pictures import read_picture
from evaluation.errors import USER_ERRORS, UserError
from trackers import load_tracker
from trackers.online import Box, Lockstep, Target


class VotSession:
    """The targets of one session of the toolkit, in the order of their start. All of them move in the same video.

    Args:
        loop: online loop of the tracker.
    """

    def __init__(self, loop: Lockstep):
        self.loop = loop
        self.targets: list[Target] = []

    def initialize(self, picture: np.ndarray, boxes: Sequence[Box]) -> list[tuple[Box, float]]:
        """Drops all targets and starts new ones; arguments, result and errors are those of `frame`."""
        self.targets = []
        return self.frame(picture, boxes)

    def frame(self, picture: np.ndarray, boxes: Sequence[Box]) -> list[tuple[Box, float]]:
        """Finds all targets in the next frame, and starts those that appear in it.

        Args:
            picture: RGB (H, W, 3) uint8.
            boxes: of the new targets, xywh in pixels.

        Returns:
            The box of each target, xywh in pixels, and its score; a new target has the score 1.

        Raises:
            TrackerError: a box has no area or lies outside of the picture.
        """
        found = self.loop.advance(self.targets, [picture] * len(self.targets))
        new = [self.loop.begin(picture, box) for box in boxes]
        self.targets += new
        return [*found, *((target.box, 1.0) for target in new)]


def serve(session: VotSession) -> None:
    """Answers the toolkit over the standard streams until it ends the session.

    The tracker announces rectangles as its only regions, so TraX itself turns masks and polygons into bounding boxes.

    Raises:
        UserError: TraX is not installed, or no toolkit answers.
        TrackerError, DataError: a region or a frame cannot be used. The toolkit is told the reason.
    """
    try:
        from trax import Image, Rectangle, Region, Server, TraxException, TraxStatus
    except ImportError as error:
        raise UserError(
            f"the VOT toolkit's TraX cannot be imported ({error}); pip install 'light-weight-trackers[vot]'. "
            "The package that is called trax is another project"
        ) from error
    try:
        server = Server([Region.RECTANGLE], [Image.PATH], tracker_name="light-weight-trackers", multiobject=True)
        while (request := server.wait()).type != TraxStatus.QUIT:
            try:
                found = _answer(session, request, request.type == TraxStatus.INITIALIZE)
            except USER_ERRORS as error:
                server.quit(str(error))
                raise
            server.status([(Rectangle.create(*box), {"confidence": f"{score:.6f}"}) for box, score in found])
    except TraxException as error:
        raise UserError(f"no VOT toolkit answers ({error}); name this command in the toolkit's trackers.ini") from error


def _answer(session: VotSession, request: Any, is_first: bool) -> list[tuple[Box, float]]:
    picture = read_picture(Path(request.image["color"].path()))
    boxes = [region.bounds() for region, _ in request.objects or []]
    return session.initialize(picture, boxes) if is_first else session.frame(picture, boxes)


def main() -> None:
    """Runs the command line.

    Raises:
        SystemExit: the checkpoint, a frame or a region cannot be used, TraX is not installed, or no toolkit answers.
    """
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("lwt-vot", description=__doc__, formatter_class=form)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="absolute path of a checkpoint or export")
    parser.add_argument("--device", default="cpu", help="device of the network (default: %(default)s)")
    parser.add_argument("--runtime", help="eager, compile, onnx or openvino (default: eager, or that of an export)")
    parser.add_argument("--threads", type=int, help="CPU threads of ONNX Runtime or OpenVINO")
    given = parser.parse_args()
    try:
        tracker = load_tracker(given.checkpoint, given.device, runtime=given.runtime, threads=given.threads)
        serve(VotSession(tracker.loop))
    except USER_ERRORS as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
