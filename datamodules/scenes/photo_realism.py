"""By how much scenes are made to look like photographs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhotoRealism:
    """What painted pictures lack; nothing of it: scenes as they are painted.

    Attributes:
        hide: 0 to 1; colours of things come as near to their backdrop's, at most.
        pattern: things wear parts of backdrops, at most so strong: outlines are no more than edges among others.
        exposure: 0 to 1; brightness comes as near to a middle grey, as cameras expose.
        contrast: spread of brightness (standard deviation, of 1) that backdrops are stretched to; 0 for none.
        sharpen: cameras do; at most so much of what a blur would lose is added.
    """

    hide: float = 0.0
    pattern: float = 0.0
    exposure: float = 0.0
    contrast: float = 0.0
    sharpen: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("hide", 1), ("pattern", 10), ("exposure", 1), ("contrast", 0.5), ("sharpen", 10)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"look.{name}={getattr(self, name)} must be between 0 and {most}; try conf/datamodule/scenes.yaml"
                )
