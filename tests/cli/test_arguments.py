"""What is done to a command line before typer reads it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.cli.arguments import commands_in, join_piece_lists


@pytest.mark.parametrize(
    ("line", "joined"),
    [
        ("seed -m 3 7 12", "seed -m 3,7,12"),
        ("seed -m 3 7 12 -f x", "seed -m 3,7,12 -f x"),
        ("seed -m 3 -m 7", "seed -m 3 -m 7"),
        ("seed -m 3,7", "seed -m 3,7"),
        ("seed -m 3-9 12 -p 9000", "seed -m 3-9,12 -p 9000"),
        ("seed -m 3, 7", "seed -m 3,,7"),
        ("seed -m3 7", "seed -m3,7"),
        ("peer -Sm 3 7 -p 9000", "peer -Sm 3,7 -p 9000"),
        ("seed --missing 3 7", "seed --missing 3,7"),
        ("seed --missing=3 7", "seed --missing=3,7"),
        ("seed -f 3 -m 7", "seed -f 3 -m 7"),
        ("seed -m x 3", "seed -m x 3"),
        ("seed -m", "seed -m"),
        ("seed -- -m 3 7", "seed -- -m 3 7"),
        ("make-torrent x -m 3 7", "make-torrent x -m 3 7"),
    ],
)
def test_the_values_of_a_piece_list_become_one(line: str, joined: str) -> None:
    assert join_piece_lists(line.split()) == joined.split()


@given(st.lists(st.sampled_from(["-m", "--missing", "3", "7-9", "x", "-f", "--", "-m5", "4,"])))
@settings(max_examples=200)
def test_no_token_is_lost_and_joining_twice_changes_nothing(tokens: list[str]) -> None:
    line = ["seed", *tokens]
    joined = join_piece_lists(line)
    assert ",".join(joined).replace(",", "") == "".join(line).replace(",", "")
    assert join_piece_lists(joined) == joined


def test_every_command_name_in_the_line_is_found() -> None:
    known = ("seed", "download")
    assert commands_in(["--log-file", "seed", "download", "x"], known) == ["seed", "download"]
    assert commands_in(["--help"], known) == []
