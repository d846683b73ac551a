"""Scrapes: queries, replies, and the address that belongs to an announce address."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.scrape_http import (
    MAX_SCRAPE,
    ScrapeEntry,
    encode_scrape,
    encode_scrape_query,
    parse_scrape,
    parse_scrape_query,
    scrape_url,
)
from p2pfs.geometry import TorrentId

ONE, TWO = TorrentId(b"\x00&=%+\xff" + b"a" * 14), TorrentId(b"b" * 20)


@pytest.mark.parametrize(
    ("announce", "scrape"),
    [
        ("http://h/announce", "http://h/scrape"),
        ("http://h/x/announce", "http://h/x/scrape"),
        ("http://h/announce.php", "http://h/scrape.php"),
        ("http://h/announce?x=2%0644", "http://h/scrape?x=2%0644"),
        ("http://h/announce?x=2/4", "http://h/scrape?x=2/4"),
        ("http://h/a", None),
        ("http://h/x%064announce", None),
        ("http://h/announce/x", None),
    ],
)
def test_the_scrape_address_follows_from_the_announce_address(
    announce: str, scrape: str | None
) -> None:
    assert scrape_url(announce) == scrape


def test_several_info_hashes_are_asked_for_at_once() -> None:
    query = encode_scrape_query([ONE, TWO]).encode()

    assert parse_scrape_query(query + b"&x=1&" + query) == [ONE, TWO]


@pytest.mark.parametrize("query", [b"", b"info_hash=", b"info_hash=abc", b"x=1", b"info_hash"])
def test_a_scrape_without_a_whole_info_hash_is_refused(query: bytes) -> None:
    with pytest.raises(FormatError):
        parse_scrape_query(query)


def test_too_many_info_hashes_are_refused() -> None:
    many = [TorrentId(bytes([number]) * 20) for number in range(MAX_SCRAPE + 1)]

    with pytest.raises(FormatError, match="may ask about"):
        parse_scrape_query(encode_scrape_query(many[: MAX_SCRAPE + 1]).encode())


def test_a_huge_query_is_refused() -> None:
    with pytest.raises(FormatError, match="longer than"):
        parse_scrape_query(b"x" * 20_000)


def test_a_reply_is_read_back() -> None:
    entries = {ONE: ScrapeEntry(1, 2, 3, 1), TWO: ScrapeEntry(4, 5, 6)}

    assert parse_scrape(encode_scrape(entries)) == entries


def test_a_reply_about_nothing_is_read_back() -> None:
    assert parse_scrape(encode_scrape({})) == {}


def test_entries_that_make_no_sense_are_left_out() -> None:
    body = bencode.encode(
        {b"files": {b"a" * 20: {b"complete": -1, b"incomplete": b"x"}, b"short": {}, b"b" * 20: 1}}
    )

    assert parse_scrape(body) == {TorrentId(b"a" * 20): ScrapeEntry(0, 0, 0)}


@pytest.mark.parametrize(
    "body", [b"", b"le", b"de", b"d5:filesi1ee", b"d14:failure reason2:noe", b"d5:filesdeeXX"]
)
def test_what_is_no_scrape_reply_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError):
        parse_scrape(body)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_raise_only_the_declared_error(data: bytes) -> None:
    for parse in (parse_scrape, parse_scrape_query):
        with contextlib.suppress(FormatError):
            parse(data)
