"""Magnet links: what is read, what is refused, and that writing undoes reading."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfs.errors import MagnetError, UsageError
from p2pfs.formats import magnet
from p2pfs.formats.magnet import Magnet
from p2pfs.formats.metainfo import FileEntry
from p2pfs.geometry import TorrentId
from tests.support.metainfo import described

HASH = bytes(range(20))
HEX = HASH.hex()
XT = f"xt=urn:btih:{HEX}"
TORRENT = TorrentId(HASH)


def read(*parts: str) -> Magnet:
    return magnet.parse("magnet:?" + "&".join((XT, *parts)))


# -- what is read


@pytest.mark.parametrize(
    "text",
    [HEX, HEX.upper(), base64.b32encode(HASH).decode(), base64.b32encode(HASH).decode().lower()],
)
def test_an_info_hash_is_read_as_hex_and_as_base32(text):
    assert magnet.parse(f"magnet:?xt=urn:btih:{text}").torrent_id == TORRENT


@pytest.mark.parametrize(
    "link",
    [
        f"MAGNET:?XT=URN:BTIH:{HEX}",
        f"  magnet:?{XT}\n",
        f"magnet:?xt=urn%3Abtih%3A{HEX}",
        f"magnet:?xt.1=urn:btih:{HEX}&xl=12&as=http%3A%2F%2Fx&unknown&=&&",
        f"magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C&{XT}",
        f"magnet:?xt=urn:btmh:1220{'ab' * 32}&{XT}",
        f"magnet:?{XT}&{XT}",
    ],
)
def test_links_as_they_are_found_are_read(link):
    assert magnet.parse(link) == Magnet(TORRENT)


def test_the_name_is_text_with_spaces_however_they_are_written():
    assert read("dn=caf%C3%A9+au%20lait", "dn=another").name == "café au lait"
    assert read("dn=").name is None
    assert len(read("dn=" + "x" * 5000).name) == 1024
    assert read("dn=%ff%fe").name == "\ufffd\ufffd"


def test_trackers_keep_their_order_and_what_is_none_is_left_out():
    urls = ["http://a/announce", "udp://b:80", "https://c/announce?passkey=x+y"]
    junk = ["wss://d", "", "e", "http://two words/", "file:///etc/passwd", "http://f\n/"]
    found = read(*(f"tr={quote(url, safe='')}" for url in [*urls, *junk, urls[0]]))

    assert found.trackers == tuple(urls)


def test_trackers_may_be_numbered_and_escaped_for_html():
    assert magnet.parse(f"magnet:?{XT}&amp;tr.1=http://a/&amp;tr.2=http://b/").trackers == (
        "http://a/",
        "http://b/",
    )


def test_web_seeds_are_http_alone():
    assert read("ws=http%3A%2F%2Fa%2F", "ws=https://b/", "ws=ftp://c/").web_seeds == (
        "http://a/",
        "https://b/",
    )


def test_peers_are_names_and_addresses_of_both_families():
    found = read("x.pe=10.0.0.5:9000", "x.pe=%5B2001:db8::1%5D:6881", "x.pe=node-5:1")

    assert found.peers == (("10.0.0.5", 9000), ("2001:db8::1", 6881), ("node-5", 1))


def test_files_are_selected_by_number_and_by_run():
    found = read("so=0,2,4-6,5-8", "so=7")

    assert found.selected == ((0, 0), (2, 2), (4, 8))
    assert read().selected == ()


def test_selected_files_are_those_of_the_torrent_without_padding():
    entries = [FileEntry(("a",), 5), FileEntry((".pad", "3"), 3, padding=True)]
    entries += [FileEntry(("deep", "b"), 5), FileEntry(("c",), 5)]
    metainfo = replace(described("album/x"), files=tuple(entries))

    def chosen(*so: str) -> tuple[int, ...]:
        return magnet.selected_files(read(*so), metainfo)

    assert chosen() == ()
    assert chosen("so=0-2,99") == (0, 2)
    assert chosen("so=3,0") == (0, 3)
    for nothing in ("so=1", "so=4-9"):
        with pytest.raises(UsageError, match="selects none of the files of album"):
            chosen(nothing)


def test_a_selection_is_read_once_however_many_files_and_runs_there_are():
    many = [FileEntry(("x",), 5)] * 1_000_000  # times the runs is more than could be compared
    metainfo = replace(described("album/x"), files=tuple(many))
    numbers = [str(number) for number in range(0, 20_000, 2)]
    runs = [",".join(numbers[at : at + 900]) for at in range(0, len(numbers), 900)]

    chosen = magnet.selected_files(read(*(f"so={run}" for run in runs)), metainfo)

    assert chosen == tuple(range(0, 20_000, 2))


# -- what is refused


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("", "no magnet link"),
        ("http://x/?" + XT, "no magnet link"),
        ("magnet:" + XT, "no magnet link"),
        ("magnet:?", "names no torrent"),
        ("magnet:?dn=name&tr=http://a/", "names no torrent"),
        ("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "names no torrent"),
        ("magnet:?xt=urn:btih:", "not an info hash"),
        (f"magnet:?xt=urn:btih:{HEX[:-1]}", "not an info hash"),
        (f"magnet:?xt=urn:btih:{HEX}0", "not an info hash"),
        (f"magnet:?xt=urn:btih:{HEX[:-1]}g", "not an info hash"),
        (f"magnet:?xt=urn:btih:{'1' * 32}", "not an info hash"),
        (f"magnet:?xt=urn:btih:{'٣' * 40}", "not an info hash"),
        (f"magnet:?xt=urn:btmh:1220{'ab' * 32}", "version 2 alone"),
        (f"magnet:?{XT}&xt=urn:btih:{'00' * 20}", "several torrents"),
        (f"magnet:?{XT}" + "&tr=http://a/" * 1000, "more than 1000 parts"),
        (f"magnet:?{XT}&dn=" + "x" * 70_000, "longer than"),
    ],
)
def test_what_names_no_torrent_is_refused_with_the_reason(link, reason):
    with pytest.raises(MagnetError, match=reason):
        magnet.parse(link)


@pytest.mark.parametrize(
    "peer",
    ["", "host", "host:", ":80", "host:0", "host:65536", "host:8_0", "host: 80", "host:+80",
     "1.2.3:4", "0.0.0.0:1", "224.0.0.1:1", "::1:80", "[::]:80", "[ff02::1]:80", "[x]:80",
     "[::1]80", "a b:1", "user@host:1", "http://host:1", "host:1/x", "host:٣"],
)  # fmt: skip
def test_a_peer_that_is_none_is_left_out_of_a_link_and_refused_alone(peer):
    assert read(f"x.pe={quote(peer)}", "x.pe=10.0.0.5:9000").peers == (("10.0.0.5", 9000),)
    with pytest.raises(MagnetError, match="not the address of a peer"):
        magnet.parse_peer(peer)


@pytest.mark.parametrize(
    "files", ["", "-1", "1-", "2-1", "a", "1,,2", "1,", "0-99999999", " 1", "٣"]
)
def test_a_selection_that_is_none_is_refused(files):
    with pytest.raises(MagnetError, match="selects no files"):
        read(f"so={quote(files)}")


@given(st.text(max_size=300))
@example("magnet:?xt=urn:btih:%ZZ")
@example("magnet:?xt=\ud800")
@example(f"magnet:?{XT}&x.pe=\udcff:1")
def test_any_text_is_read_or_refused(text):
    for link in (text, f"magnet:?{text}", f"magnet:?{XT}&{text}"):
        with contextlib.suppress(MagnetError):
            magnet.parse(link)


# -- what is written


runs = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9)), max_size=5).map(
    lambda found: magnet._merged_runs([(first, first + more) for first, more in found])
)
labels = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z]", fullmatch=True)
paths = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=30)


@given(
    st.builds(
        Magnet,
        st.binary(min_size=20, max_size=20).map(TorrentId),
        st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        st.lists(st.builds("http://{}/{}".format, labels, paths), unique=True, max_size=4).map(
            tuple
        ),
        st.lists(st.builds("https://{}/{}".format, labels, paths), unique=True, max_size=4).map(
            tuple
        ),
        st.lists(
            st.tuples(labels | st.sampled_from(["10.0.0.5", "2001:db8::1"]), st.integers(1, 65535)),
            unique=True,
            max_size=4,
        ).map(tuple),
        runs,
    )
)
def test_what_was_written_is_read_again(made):
    link = magnet.encode(made)

    assert magnet.parse(link) == made
    assert link.isascii()
    assert " " not in link
    assert magnet.is_magnet(link)


def test_the_link_of_a_torrent_names_all_that_is_needed():
    metainfo = replace(
        described("two words"),
        trackers=(("http://a/announce",), ("udp://b:1",)),
        web_seeds=("http://w/",),
    )

    link = magnet.encode(
        magnet.link_of(metainfo, trackers=["http://mine/announce"], peers=[("::1", 9000)])
    )

    assert link == (
        f"magnet:?xt=urn:btih:{metainfo.torrent_id}&dn=two%20words"
        "&tr=http%3A%2F%2Fmine%2Fannounce&tr=http%3A%2F%2Fa%2Fannounce&tr=udp%3A%2F%2Fb%3A1"
        "&ws=http%3A%2F%2Fw%2F&x.pe=[::1]:9000"
    )


def test_links_are_told_from_names_and_files():
    assert magnet.is_magnet(f" Magnet:?{XT}")
    assert not magnet.is_magnet("magnet.torrent")
    assert not magnet.is_magnet("magnets")


def test_two_links_of_one_torrent_are_one_with_all_that_both_name():
    other = "aa" * 20
    first = f"magnet:?{XT}&tr=http%3A%2F%2Fone.example%2Fannounce&x.pe=10.0.0.5:1&so=1-3"
    second = f"magnet:?{XT}&dn=x&tr=http%3A%2F%2Ftwo.example%2Fannounce&x.pe=10.0.0.5:1&so=4,9"

    one, two = magnet.merged(
        magnet.parse(link) for link in (first, f"magnet:?xt=urn:btih:{other}", second)
    )

    assert one.name == "x"
    assert one.trackers == ("http://one.example/announce", "http://two.example/announce")
    assert one.peers == (("10.0.0.5", 1),)
    assert one.selected == ((1, 4), (9, 9))
    assert str(two.torrent_id) == other


def test_of_two_links_the_one_that_wants_all_files_counts():
    (both,) = magnet.merged([magnet.parse(f"magnet:?{XT}&so=1"), magnet.parse(f"magnet:?{XT}")])
    assert both.selected == ()
