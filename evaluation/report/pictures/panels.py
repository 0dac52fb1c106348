"""Places of panels beside each other in one picture, one panel for each tracker."""

from dataclasses import dataclass

CANVAS = (1920, 1080)  # largest width and height of all panels together, in pixels
SMALLEST = (640, 480)  # width up to which a small frame is enlarged: a panel alone, and one of several
SHARE = 0.8  # of the width of the largest panels that panels in another arrangement must have
GAP = 12  # pixels between two panels
PLAIN = (960, 360)  # width of a picture, and of a panel, on which lines and letters have their plain size


@dataclass(frozen=True)
class Panels:
    """Sizes of panels that are alike.

    Attributes:
        columns: panels in a row.
        width: of a panel, in pixels, even.
        zoom: of lines and letters.
    """

    columns: int
    width: int
    zoom: float

    @classmethod
    def of(cls, count: int, size: tuple[int, int]) -> "Panels":
        """Returns large panels for a number of trackers, in full rows if possible.

        Args:
            count: of trackers.
            size: (width, height) of the frames. A frame keeps its size if there is room for it.
        """
        wide, high = sorted(CANVAS, reverse=size[0] >= size[1]) if count == 1 else CANVAS
        room, wanted = {}, max(size[0], SMALLEST[count > 1])
        for columns in range(count, 0, -1):
            rows = -(-count // columns)
            across, down = (wide - GAP * (columns - 1)) / columns, (high - GAP * (rows - 1)) / rows
            room[columns] = min(wanted, across, down * size[0] / size[1])
        # Full rows, and then panels side by side, are better than somewhat larger panels.
        large = [n for n in room if room[n] > SHARE * max(room.values())]
        columns = min(large, key=lambda n: (-count % n, -n))
        width = max(2, 2 * int(room[columns] / 2))
        return cls(columns, width, max(1.0, min(columns * width / PLAIN[0], width / PLAIN[1])))
