"""`key = value` files: what is written is read back, and what is wrong is named by its line."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats.config_file import MAX_BYTES, encode, parse

KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)


@given(st.dictionaries(KEYS, st.text(st.characters()), max_size=5))
@example({"folder": " /a b/ü#=\"'\\ "})
@example({"folder": "line\nother = 1\r\n\x1b[31m\x85\u2028\u202e\udcff"})
@example({"a": "", "b": '"', "c": "#", "d": "="})
def test_whatever_text_is_written_is_read_back(values: dict[str, str]) -> None:
    text = encode(values)

    assert parse(text) == values
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_file_looks_as_documented() -> None:
    assert encode({"host": "10.0.0.5", "port": "9999"}) == "host = 10.0.0.5\nport = 9999\n"


def test_comments_blanks_and_the_marks_of_editors_do_not_count() -> None:
    text = "\ufeff# the index\r\n\r\n  Host=10.0.0.5 \r\nport\t=\t9999"

    assert parse(text) == {"host": "10.0.0.5", "port": "9999"}


def test_a_value_may_hold_what_separates() -> None:
    assert parse("folder = C:\\a = b # c") == {"folder": "C:\\a = b # c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host = a\nport 9999", "line 2 is not"),
        ("= a", "line 1 is not"),
        ("a b = c", "line 1 is not"),
        ("ключ = c", "line 1 is not"),
        ("k" * 65 + " = c", "line 1 is not"),
        ("a = 1\n\nA = 2", "line 3 gives a a second value"),
        ('a = "b', "line 1 has a quote"),
        ('a = "b" c', "line 1 has a quote"),
        ('a = "\\ud8"', "line 1 has a quote"),
        ("a = " + "b" * MAX_BYTES, "more than"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        values = parse(text)
    except FormatError:
        return
    assert parse(encode(values)) == values


@pytest.mark.parametrize("key", ["", "A", "a b", "a=", "a\n", "#a"])
def test_a_key_that_could_not_be_read_back_is_refused(key: str) -> None:
    with pytest.raises(FormatError, match="cannot be the name"):
        encode({key: "x"})


def test_too_much_is_not_written() -> None:
    with pytest.raises(FormatError, match="more than"):
        encode({"a": "b" * MAX_BYTES})
