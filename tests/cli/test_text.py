"""Text that came from others, made safe for a terminal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.cli.text import format_pieces, printable, shorten


def test_control_sequences_are_written_out() -> None:
    assert printable("a\x1b[2Jb\r\n\x07") == "a\\x1b[2Jb\\x0d\\x0a\\x07"


def test_c1_controls_direction_marks_and_surrogates_are_written_out() -> None:
    assert printable("\x9b31m") == "\\x9b31m"
    assert printable("exe\u202etxt") == "exe\\u202etxt"
    assert printable("a\udcffb") == "a\\udcffb"


def test_plain_text_stays_as_it_is() -> None:
    assert printable("Grüße, 世界 (1).txt") == "Grüße, 世界 (1).txt"


@given(st.text())
@settings(max_examples=100)
def test_whatever_comes_in_only_printable_text_comes_out(text: str) -> None:
    assert printable(text).isprintable()


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


def test_pieces_are_written_as_runs() -> None:
    assert format_pieces([]) == ""
    assert format_pieces([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert format_pieces(range(0, 40, 2), limit=2) == "0, 2, and 18 more runs"
