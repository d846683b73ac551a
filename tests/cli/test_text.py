"""Text for a terminal: made safe, measured, cut and written."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.cli.text import (
    check_words,
    format_pieces,
    printable,
    quoted,
    shorten,
    width,
    write_out,
)
from p2pfs.errors import StorageError, UsageError


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


def test_wide_characters_take_two_columns_and_marks_take_none() -> None:
    assert width("abc") == 3
    assert width("文件") == 4
    assert width("e\u0301") == 1
    assert shorten("文件文件", 8) == "文件文件"
    assert shorten("文件文件", 7) == "文件文…"
    assert shorten("文件文件", 6) == "文件…"


@given(st.text(), st.integers(1, 20))
@settings(max_examples=100)
def test_what_is_cut_fits(text: str, columns: int) -> None:
    assert width(shorten(text, columns)) <= columns


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_standard_output_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", closefd=False)
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(StorageError, match="standard output"):
        write_out("text\n")


def test_pieces_are_written_as_runs() -> None:
    assert format_pieces([]) == ""
    assert format_pieces([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert format_pieces(range(0, 40, 2), limit=2) == "0, 2, and 18 more runs"


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("a.txt", "a.txt"),
        ("2024/05/ä.jpg", "2024/05/ä.jpg"),
        ("my file.txt", '"my file.txt"'),
        ("don't", '"don\'t"'),
        ("", '""'),
        ("*", '"*"'),
        ("$HOME", "'$HOME'"),
        ('"', "'\"'"),
        ("=a", '"=a"'),
        ("a,b", '"a,b"'),
        ("-e.txt", "-e.txt"),
        ("wow! it's", "'wow! it'\"'\"'s'"),
    ],
)
def test_a_name_is_quoted_as_it_has_to_be_typed(text: str, typed: str) -> None:
    assert quoted(text) == typed
    assert shlex.split(typed) == [text]


def test_words_of_a_command_line_are_text_and_each_comes_once() -> None:
    assert check_words(["b", "a", "b"], "a name") == ["b", "a"]
    for word in ("", "\udcff"):
        with pytest.raises(UsageError, match="a name"):
            check_words(["a", word], "a name")
