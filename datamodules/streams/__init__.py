"""Frames that arrive in order and once: of video files, folders, cameras and addresses in the network."""

from datamodules.streams.opening import open_stream
from datamodules.streams.reader import StreamReader
from datamodules.streams.stream import FrameStream, StreamError, TimedFrame

__all__ = ["FrameStream", "StreamError", "StreamReader", "TimedFrame", "open_stream"]
