"""Asks for the box of an object by mouse, where there is a screen."""

import os
import subprocess
import sys

import cv2
import numpy as np

from evaluation.errors import UserError

TITLE = "draw a box around the object, then press Enter"
LARGEST = 1280  # side of the window in pixels
CALL = "give it, e.g. box=310,180,90,140 (x,y,width,height in pixels of the first frame)"
PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"


def draw_box(image: np.ndarray) -> tuple[float, float, float, float]:
    """Returns the box, xywh in pixels, that the user draws on a frame, RGB (H, W, 3) uint8.

    Raises:
        UserError: the user draws no box.
    """
    scale = min(1, LARGEST / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    x, y, w, h = cv2.selectROI(TITLE, shown, showCrosshair=False, printNotice=False)
    cv2.destroyAllWindows()
    if not w or not h:
        raise UserError(f"no box was drawn; draw one and press Enter, or {CALL}")
    return x / scale, y / scale, w / scale, h / scale


def check_screen() -> None:
    """Checks that a box can be drawn.

    Raises:
        UserError: there is no screen, or this OpenCV opens no windows.
    """
    if not has_screen():
        raise UserError(f"there is no screen on which to draw the box of the object; {CALL}")


def has_screen() -> bool:
    """Returns whether OpenCV can open a window.

    Another process tries it: without a display that answers, the window system of OpenCV ends its process.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False).returncode == 0
