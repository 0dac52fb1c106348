"""From a tracker and videos to boxes, and from boxes to numbers."""
