"""Pictures as JPEG files, and as a part of a page."""

import base64

import cv2
import numpy as np


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Returns the content of a JPEG file of a picture, RGB (H, W, 3) uint8."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def jpeg_uri(picture: np.ndarray, quality: int) -> str:
    """Returns a data URI with a JPEG of a picture, RGB (H, W, 3) uint8."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture, quality)).decode()}"
