"""Which pieces a partial seeder has, from what people write."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import UsageError
from p2pfs.formats.selection import parse_pieces, select_pieces


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        (["3"], {3}),
        (["3 7 12"], {3, 7, 12}),
        (["3,7"], {3, 7}),
        (["3, 7"], {3, 7}),
        (["3-5"], {3, 4, 5}),
        (["3-5,9", "0"], {0, 3, 4, 5, 9}),
        (["4-4"], {4}),
        ([], set()),
        ([","], set()),
    ],
)
def test_pieces_are_read_in_every_form(texts: list[str], pieces: set[int]) -> None:
    assert parse_pieces(texts, 13) == pieces


@pytest.mark.parametrize(
    "text", ["x", "-1", "3-", "1_0", "+3", "٣", "3.5", "0x3", "3--5", "9" * 13]
)
def test_what_is_not_a_piece_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a piece.*: the torrent has 13 pieces, 0 to 12"):
        parse_pieces([text], 13)


def test_a_missing_piece_past_the_end_names_the_number_of_pieces() -> None:
    with pytest.raises(UsageError, match="no piece 13: the torrent has 13 pieces, 0 to 12"):
        parse_pieces(["12-13"], 13)


def test_a_run_backwards_is_refused() -> None:
    with pytest.raises(UsageError, match="backwards: the torrent has 13 pieces"):
        parse_pieces(["7-3"], 13)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, range(10)),
        ("0", "0", range(1)),
        ("3", "7", range(3, 8)),
        ("0.2", "0.4", range(2, 4)),
        ("20%", "40%", range(2, 4)),
        ("0.25", "0.75", range(2, 8)),
        ("0.0", "1.0", range(10)),
        (".5", None, range(5, 10)),
        (None, "5%", range(1)),
        ("0.99", "100%", range(9, 10)),
        ("12.5%", "3", range(1, 4)),
    ],
)
def test_a_range_is_inclusive_and_shares_round_outwards(
    first: str | None, last: str | None, expected: range
) -> None:
    assert list(select_pieces(10, first=first, last=last)) == list(expected)


def test_one_is_a_piece_and_one_point_zero_is_everything() -> None:
    assert list(select_pieces(10, last="1")) == [0, 1]
    assert list(select_pieces(10, last="1.0")) == list(range(10))


def test_missing_pieces_are_taken_out_of_the_range() -> None:
    assert list(select_pieces(10, missing=["3", "5-6"], first="2", last="7")) == [2, 4, 7]


@pytest.mark.parametrize(
    ("first", "last", "missing", "message"),
    [
        ("7", "3", [], "holds no piece: the torrent has 10 pieces, 0 to 9"),
        ("0.5", "0.5", [], "holds no piece: the torrent has 10 pieces"),
        (None, "0%", [], "holds no piece"),
        ("10", None, [], "no piece 10: the torrent has 10 pieces"),
        ("101%", None, [], "more than all"),
        ("1.5", None, [], "more than all"),
        ("3", "3", ["3"], "no piece is left to seed: the torrent has 10 pieces"),
        ("abc", None, [], "neither a piece.*: the torrent has 10 pieces"),
        ("", None, [], "neither a piece.*: the torrent has 10 pieces"),
        ("-0.2", None, [], "neither a piece.*: the torrent has 10 pieces"),
        ("%", None, [], "neither a piece"),
        ("1e3", None, [], "neither a piece"),
        ("nan", None, [], "neither a piece"),
    ],
)
def test_an_impossible_selection_says_why(
    first: str | None, last: str | None, missing: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        select_pieces(10, missing=missing, first=first, last=last)


@given(st.integers(1, 5000), st.lists(st.integers(0, 1000), min_size=1, max_size=8))
@settings(max_examples=50)
def test_adjoining_shares_leave_no_hole(piece_count: int, cuts: list[int]) -> None:
    bounds = sorted({0, 1000, *cuts})
    covered: set[int] = set()
    for low, high in pairwise(bounds):
        covered.update(
            select_pieces(piece_count, first=f"{low / 1000:.3f}", last=f"{high / 1000:.3f}")
        )
    assert covered == set(range(piece_count))


@given(st.text(max_size=20), st.integers(0, 50))
@settings(max_examples=200)
def test_any_text_is_a_selection_or_a_usage_error(text: str, piece_count: int) -> None:
    for options in ({"missing": [text]}, {"first": text}, {"last": text}):
        try:
            have = select_pieces(piece_count, **options)  # type: ignore[arg-type]
        except UsageError:
            continue
        assert len(have) == piece_count


def test_errors_count_the_pieces_of_the_smallest_torrents_too() -> None:
    with pytest.raises(UsageError, match="the torrent has no pieces"):
        select_pieces(0, missing=["0"])
    with pytest.raises(UsageError, match="the torrent has 1 piece, number 0"):
        select_pieces(1, missing=["1"])
