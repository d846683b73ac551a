"""Searches on the local network: the bytes that are sent, and whatever comes in."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats.local_search import (
    GROUP4,
    GROUP6,
    MAX_DATAGRAM,
    MAX_HASHES,
    Search,
    encode,
    parse,
)

HASH = bytes(range(20))
OTHER = b"\xab" * 20

LIBTORRENT = (
    b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n"
    b"Infohash: 000102030405060708090a0b0c0d0e0f10111213\r\ncookie: 1f2e3d\r\n\r\n\r\n"
)


def test_a_search_has_the_form_of_bep_14():
    assert encode(GROUP4, Search(6881, (HASH,), b"1f2e3d")) == LIBTORRENT
    assert b"\r\nHost: [ff15::efc0:988f]:6771\r\n" in encode(GROUP6, Search(1, (HASH,)))


def test_several_info_hashes_go_in_one_datagram_of_1400_bytes():
    hashes = tuple(bytes((n,)) * 20 for n in range(MAX_HASHES))

    datagram = encode(GROUP6, Search(65535, hashes, b"12345678"))

    assert len(datagram) <= MAX_DATAGRAM == 1400
    assert parse(datagram).info_hashes == hashes
    with pytest.raises(ValueError, match="do not fit"):
        encode(GROUP4, Search(1, (*hashes, HASH)))


def test_what_others_write_is_read():
    assert parse(LIBTORRENT) == Search(6881, (HASH,), b"1f2e3d")


@pytest.mark.parametrize(
    "datagram",
    [
        LIBTORRENT.replace(b"\r\n", b"\n"),
        LIBTORRENT.rstrip(),
        LIBTORRENT.lower(),
        LIBTORRENT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        LIBTORRENT.replace(b": ", b" :\t"),
        LIBTORRENT.replace(b"Port:", b"X-Unknown: ?\r\nbroken\r\n: \r\nPort:"),
        LIBTORRENT.replace(b"cookie", b"Infohash: 123\r\nInfohash: %b\r\ncookie" % (b"g" * 40)),
        LIBTORRENT.replace(b"cookie", b"Port: 0\r\nPort: 6_6\r\nPort: -1\r\ncookie"),
    ],
)
def test_small_differences_do_not_matter(datagram: bytes):
    assert parse(datagram) == Search(6881, (HASH,), b"1f2e3d")


def test_a_cookie_may_be_missing_and_hashes_may_be_repeated():
    lines = b"".join(b"Infohash: %b\r\n" % one.hex().encode() for one in (OTHER, HASH, OTHER))

    assert parse(b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n" + lines) == Search(1, (OTHER, HASH))


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\r\n",
        b"\xff" * 1400,
        LIBTORRENT.replace(b"Port: 6881", b""),
        LIBTORRENT.replace(b"6881", b"0"),
        LIBTORRENT.replace(b"6881", b"65536"),
        LIBTORRENT.replace(b"6881", b"+6881"),
        LIBTORRENT.replace(b"6881", b"6 881"),
        LIBTORRENT.replace(b"0a0b", b"0a0"),
        LIBTORRENT.replace(b"Infohash", b"Info-hash"),
    ],
)
def test_anything_else_is_refused(datagram: bytes):
    with pytest.raises(FormatError):
        parse(datagram)


def test_of_a_datagram_that_is_too_long_the_beginning_is_read():
    line = b"Infohash: %b\r\n" % OTHER.hex().encode()

    found = parse(LIBTORRENT.rstrip() + b"\r\n" + line * 10_000)

    assert found.info_hashes == (HASH, OTHER)


@given(
    st.integers(1, 65535),
    st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=MAX_HASHES, unique=True),
    st.from_regex(rb"[0-9a-f]{0,16}", fullmatch=True),
)
def test_what_is_written_is_read_again(port: int, hashes: list[bytes], cookie: bytes):
    search = Search(port, tuple(hashes), cookie)

    assert parse(encode(GROUP4, search)) == search


LINES = st.sampled_from([b"Port: ", b"Infohash: ", b"cookie: ", b"x", b":", b"6881", b"ab" * 20])


@given(
    st.one_of(st.binary(), st.lists(LINES).map(b"\r\n".join)).map(b"BT-SEARCH * HTTP/1.1".__add__)
)
@example(LIBTORRENT)
def test_whatever_comes_is_refused_or_read_within_the_bounds(datagram: bytes):
    try:
        search = parse(datagram)
    except FormatError:
        return

    assert 0 < search.port < 65536
    assert 0 < len(search.info_hashes) <= MAX_HASHES
    assert all(len(info_hash) == 20 for info_hash in search.info_hashes)
