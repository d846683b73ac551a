"""URLs that come inside torrents (BEP 3, BEP 12, BEP 19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats.torrent_urls import MAX_URLS, read_tiers, read_urls


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (b"http://a/f", ("http://a/f",)),
        ([b"http://a/f", b"http://b/f", b"http://a/f"], ("http://a/f", "http://b/f")),
        ("udp://ü:1".encode(), ("udp://ü:1",)),
        (b" http://a/f\n", ("http://a/f",)),
        ([], ()),
        (b"", ()),
        (None, ()),
        (7, ()),
        ({b"http://a": 1}, ()),
        ([7, [b"http://a"], b"http://b"], ("http://b",)),
    ],
)
def test_a_string_or_a_list_of_strings_is_read(value, urls):
    assert read_urls(value) == urls


@pytest.mark.parametrize(
    "bad",
    [
        b"no url",
        b"http://a/b c",
        b"http://a/\r\nX-Evil: 1",
        b"http://a/\x1b[2J",
        b"http://a/\0",
        b"http://a/\xff",
        "http://a/\u202egpj".encode(),
        b"http://" + b"a" * 2048,
    ],
)
def test_what_is_no_plain_url_is_left_out(bad):
    assert read_urls([bad, b"http://good"]) == ("http://good",)


def test_announce_list_wins_over_announce():
    root = {b"announce": b"http://one", b"announce-list": [[b"http://two", b"http://three"]]}

    assert read_tiers(root) == (("http://two", "http://three"),)


@pytest.mark.parametrize("useless", [[], [[]], [[b""]], [[7]], b"http://no", 7, [[b"nonsense"]]])
def test_announce_counts_when_announce_list_is_of_no_use(useless):
    assert read_tiers({b"announce": b"http://one", b"announce-list": useless}) == (("http://one",),)


def test_a_tracker_is_in_one_tier_only_and_empty_tiers_vanish():
    tiers = [[b"http://a", b"http://b"], [b"http://b"], [b"http://c", b"http://a"]]

    assert read_tiers({b"announce-list": tiers}) == (("http://a", "http://b"), ("http://c",))


def test_a_flat_announce_list_is_read_as_one_tier_for_each():
    assert read_tiers({b"announce-list": [b"http://a", b"http://b"]}) == (
        ("http://a",),
        ("http://b",),
    )


def test_without_trackers_there_are_no_tiers():
    assert read_tiers({}) == ()


def test_the_number_of_urls_is_capped():
    many = [b"http://host%d" % n for n in range(MAX_URLS + 50)]

    assert len(read_urls(many)) == MAX_URLS
    assert sum(map(len, read_tiers({b"announce-list": [[url] for url in many]}))) == MAX_URLS


@given(st.recursive(st.binary(max_size=20) | st.integers(), lambda x: st.lists(x, max_size=4)))
def test_any_value_gives_clean_urls(value):
    tiers = read_tiers({b"announce": value, b"announce-list": value})
    for url in (*read_urls(value), *(url for tier in tiers for url in tier)):
        assert "://" in url
        assert url.isprintable()
