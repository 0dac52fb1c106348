import pytest

from pruning.command_line.spelling import spell_options

NAMES = ("ratio", "ratio_of", "round_to", "protect", "input")


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        ("pruning.round_to=8 is wrong", "--round-to 8 is wrong"),
        ("ratio=0.5, ratio_of=macs", "--ratio 0.5, --ratio-of macs"),
        ("see pruning.protect.", "see --protect."),
        ("leave them: pruning.protect=['a.b', 'c*']; or not", "leave them: --protect a.b --protect 'c*'; or not"),
        ("the ratio of units and inputs=lambda", "the ratio of units and inputs=lambda"),
        ("pruning.scope=layer, pruning.ratios=1", "pruning.scope=layer, pruning.ratios=1"),
    ],
)
def test_only_settings_that_are_options_are_spelled_as_options(message: str, spelled: str) -> None:
    assert spell_options(message, NAMES) == spelled
