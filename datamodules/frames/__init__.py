"""Frames: pictures, videos, and JPEG files of which only a part is decoded."""
