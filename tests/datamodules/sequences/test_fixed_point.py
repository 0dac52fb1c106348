"""The fast parser of tables gives the same bits as the strict parser, or nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sequences.fixed_point import fixed_point_table
from tests.datamodules.sequences.strict import damaged, strict_numbers


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Generates tables of numbers with equal decimals, some with more digits than a double holds."""
    decimals, digits = draw(st.integers(0, 25)), draw(st.sampled_from([3, 16, 17, 20]))
    numbers = st.integers(-(10**digits), 10**digits).map(lambda n: _written(n, decimals))
    return "\n".join(draw(st.lists(st.lists(numbers, min_size=2, max_size=2).map(",".join), min_size=1))).encode()


def _written(number: int, decimals: int) -> str:
    whole, part = divmod(abs(number), 10**decimals)
    return "-" * (number < 0) + (f"{whole}.{part:0{decimals}d}" if decimals else str(whole))


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(tables(), damaged(tables())))
def test_any_table_is_read_as_by_the_strict_parser_or_refused(text):
    fast, strict = fixed_point_table(text, 2), strict_numbers(text, 2)
    if fast is not None:
        assert fast.tolist() == strict


@pytest.mark.parametrize("text", [b"1,2\n3,4", b"1.250,-2.000\n0.001,1920.125", b"-1.5,0.5", b"0.1,0.2"])
def test_what_tools_write_is_read(text):
    assert fixed_point_table(text, 2).tolist() == strict_numbers(text, 2)


@pytest.mark.parametrize(
    "text",
    [
        *(b"1.5,2", b"1.25,2.5", b"1e3,2", b"1,2,3", b"1\n2", b"--1,2", b"1-2,3", b"-.5,0.5", b"+1,2", b"nan,1", b"1,"),
        *(b"9007199254740993,1", b"18446744073709551617,1", b"0.%s,0.%s" % (b"1" * 23, b"2" * 23)),
    ],
)
def test_other_tables_are_left_to_the_general_parser(text):
    assert fixed_point_table(text, 2) is None


def test_a_table_keeps_its_type_and_shape():
    table = fixed_point_table(b"1,2,3,4\n5,6,7,8", 4)
    assert table.shape == (2, 4)
    assert table.dtype == np.float64
