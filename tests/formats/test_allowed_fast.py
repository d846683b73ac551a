"""The allowed fast set (BEP 6)."""

from __future__ import annotations

import pytest

from p2pfs.formats.allowed_fast import allowed_fast_set
from p2pfs.formats.endpoint import pack_host

INFO_HASH = b"\xaa" * 20
PUBLISHED = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]


@pytest.mark.parametrize("size", [7, 9])
def test_the_allowed_fast_set_is_the_published_one(size):
    assert allowed_fast_set(pack_host("80.4.4.200"), INFO_HASH, 1313, size) == PUBLISHED[:size]


def test_a_network_has_one_set():
    for one, other, same in [
        ("80.4.4.200", "80.4.4.1", True),
        ("80.4.4.200", "80.4.5.200", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ]:
        sets = [allowed_fast_set(pack_host(host), INFO_HASH, 10_000) for host in (one, other)]
        assert (sets[0] == sets[1]) == same


def test_every_torrent_has_a_set_of_its_own():
    sets = {tuple(allowed_fast_set(bytes(4), bytes([n]) * 20, 1000)) for n in range(50)}

    assert len(sets) == 50


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 1000])
def test_a_set_has_distinct_pieces_of_the_torrent(count):
    pieces = allowed_fast_set(pack_host("10.0.0.1"), INFO_HASH, count)

    assert len(pieces) == len(set(pieces)) == min(10, count)
    assert all(0 <= piece < count for piece in pieces)
