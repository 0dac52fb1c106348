"""Text files of numbers are read exactly as by a slow, strict parser, or refused."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.sequences.annotations import read_labels, read_numbers
from tests.datamodules.sequences.strict import SYMBOLS, damaged, strict_labels, strict_numbers

quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw: st.DrawFn, columns: int) -> bytes:
    number = st.one_of(st.integers(-99, 1999).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr))
    rows = draw(st.lists(st.lists(number, min_size=columns, max_size=columns), max_size=4))
    delimiter, newline = (
        draw(st.sampled_from([",", "\t", " ", ", ", " , "])),
        draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    return (
        newline.join(delimiter.join(row) for row in rows) + draw(st.sampled_from(["", newline, 2 * newline]))
    ).encode()


def texts(columns: int) -> st.SearchStrategy[bytes]:
    return st.one_of(
        damaged(tables(columns)), st.lists(st.sampled_from(SYMBOLS), max_size=12).map(b"".join), st.binary(max_size=20)
    )


def result(read, *arguments) -> list | None:
    try:
        return read(*arguments).tolist()
    except DataError:
        return None


@quick
@given(columns=st.sampled_from([1, 2, 4]), nan=st.booleans(), data=st.data())
def test_any_text_is_read_strictly_or_refused(tmp_path, columns, nan, data):
    text = data.draw(texts(columns))
    (tmp_path / "a.txt").write_bytes(text)
    read, expected = result(read_numbers, tmp_path / "a.txt", columns, nan), strict_numbers(text, columns, nan)
    assert (read is None) == (expected is None)
    if read is not None:
        assert np.array_equal(np.reshape(read, (-1, columns)), np.reshape(expected, (-1, columns)), equal_nan=True)


@quick
@given(text=texts(1), count=st.integers(0, 4), highest=st.sampled_from([1, 8]))
@example(text=b"1\n9223372036854775808\n", count=2, highest=8)
@example(text=b"0,256", count=2, highest=8)
@example(text=b"1,,0", count=2, highest=8)
@example(text=b"1,0,", count=2, highest=1)
def test_any_labels_are_read_strictly_or_refused(tmp_path, text, count, highest):
    (tmp_path / "a.label").write_bytes(text)
    assert result(read_labels, tmp_path / "a.label", count, highest) == strict_labels(text, count, highest)


@pytest.mark.parametrize(
    "text", ["1,2,3,4\n5,6,7,8\n", "1 2 3 4\r\n5\t6\t7\t8", " 1, 2,3 ,4\n5.0,6e0,7.,+8\n\n\n", "\ufeff1,2,3,4\r5,6,7,8"]
)
def test_spellings_of_the_same_boxes(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert read_numbers(tmp_path / "a.txt", 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.txt").touch()
    assert read_numbers(tmp_path / "a.txt", 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2 is '1,2,3'"),
        ("1,2,3,x\n", "line 1 is '1,2,3,x'"),
        ("1,2,3,4\n\n1,2,3,4", "line 2 is ''"),
    ],
)
def test_the_first_wrong_line_is_named(tmp_path, text, line):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=re.escape(line)):
        read_numbers(tmp_path / "a.txt", 4)


@pytest.mark.parametrize("blank", ["\x0b", "\x0c", "\x1c", "\xa0", "\0", "\u2003"])
@pytest.mark.parametrize("line", ["1, {}2,3,4", "1,{}2,3,4", "1 {}2 3 4", "1 2 3 4{}"])
def test_other_white_space_is_refused(tmp_path, blank, line):
    (tmp_path / "a.txt").write_text(line.format(blank))
    with pytest.raises(DataError, match="line 1"):
        read_numbers(tmp_path / "a.txt", 4)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "1e999", "-1e999"])
def test_only_nan_may_be_allowed(tmp_path, value):
    (tmp_path / "a.txt").write_text(f"1,2,3,{value}\n")
    with pytest.raises(DataError, match="finite"):
        read_numbers(tmp_path / "a.txt", 4)
    if value.lower() == "nan":
        assert np.isnan(read_numbers(tmp_path / "a.txt", 4, nan=True)[0, 3])
    else:
        with pytest.raises(DataError, match="line 1"):
            read_numbers(tmp_path / "a.txt", 4, nan=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt is missing"):
        read_numbers(tmp_path / "a.txt", 4)


@pytest.mark.parametrize("text", ["0\n1\n0\n", "0,1,0", "0,1,0\n", "0\r\n1\r\n0", "0 1 0", "0\t1\t0"])
def test_spellings_of_the_same_labels(tmp_path, text):
    (tmp_path / "a.label").write_bytes(text.encode())
    labels = read_labels(tmp_path / "a.label", 3)
    assert labels.tolist() == [0, 1, 0]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("text", ["0,2,0", "0,0.5,0", "0,-1,0", "0,nan,0", "a"])
def test_labels_are_whole_and_in_range(tmp_path, text):
    (tmp_path / "a.label").write_text(text)
    with pytest.raises(DataError, match="whole numbers from 0 to 1"):
        read_labels(tmp_path / "a.label", 3)


def test_labels_that_do_not_fit_are_counted(tmp_path):
    (tmp_path / "a.label").write_text("0,1")
    with pytest.raises(DataError, match="2 labels for 3"):
        read_labels(tmp_path / "a.label", 3)
