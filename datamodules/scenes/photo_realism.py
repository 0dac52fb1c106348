"""Settings that make painted scenes resemble photographs."""

from dataclasses import dataclass

from datamodules.errors import DataError

LIMITS = {"hide": 1, "pattern": 10, "exposure": 1, "contrast": 0.5, "sharpen": 10, "real": 1}


@dataclass(frozen=True)
class PhotoRealism:
    """Properties of photographs that painted scenes lack. The default adds none of them.

    Attributes:
        hide: largest shift of an object's colour towards the colour of its backdrop, from 0 (none) to 1 (all of it).
        pattern: largest strength of the patterns on objects, from 0 to 10. Patterns are parts of backdrops; with them,
            an object's outline is one edge among many.
        exposure: shift of the mean brightness towards middle grey, as automatic exposure does, from 0 to 1.
        contrast: standard deviation of brightness (in 0..1) to which backdrops are stretched, up to 0.5; 0 for none.
        sharpen: largest strength of unsharp masking, as cameras apply it, from 0 to 10.
        real: share of the real things of the bank that `hide` and `pattern` change, from 0 to 1; also the share of
            their strength for these. Real things have patterns and colours of their own.

    Raises:
        DataError: a value is out of its range.
    """

    hide: float = 0.0
    pattern: float = 0.0
    exposure: float = 0.0
    contrast: float = 0.0
    sharpen: float = 0.0
    real: float = 1.0

    def __post_init__(self) -> None:
        for name, highest in LIMITS.items():
            if not 0 <= getattr(self, name) <= highest:
                raise DataError(
                    f"datamodule.look.{name}={getattr(self, name)} must be between 0 and {highest}; "
                    "see conf/datamodule/source/scenes.yaml"
                )
