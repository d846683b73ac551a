"""Peer ids: ours, and what others' tell (BEP 20)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.formats.peer_id import client_name, make_peer_id


def test_our_peer_id_is_20_bytes_of_which_12_are_random():
    asked = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return b"r" * size

    assert make_peer_id(random_bytes) == b"-PF0100-" + b"r" * 12
    assert asked == [12]


@pytest.mark.parametrize(
    ("peer_id", "name"),
    [
        (b"-PF0100-abcdefghijkl", "p2pfs 0.1"),
        (b"-LT20B0-abcdefghijkl", "libtorrent 2.0.11"),
        (b"-TR4060-abcdefghijkl", "Transmission 4.0.6"),
        (b"-qB5012-abcdefghijkl", "qBittorrent 5.0.1.2"),
        (b"-lt0E00-abcdefghijkl", "rtorrent 0.14"),
        (b"A2-1-36-0-abcdefghij", "aria2 1.36.0"),
        (b"-ZZ1000-abcdefghijkl", "ZZ 1.0"),
    ],
)
def test_a_known_form_names_the_client_and_its_version(peer_id, name):
    assert client_name(peer_id) == name


@pytest.mark.parametrize(
    "peer_id",
    [
        b"",
        bytes(20),
        b"\xff" * 20,
        b"-\xc3\xa90100-abcdefghijkl",
        b"-LT20-",
        b"xLT20B0-abcdefghijkl",
        b"-LT\x1b[2J-abcdefghijkl",
        b"A2-1-36-",
        b"A2-\xd9\xa1-36-0-",
    ],
)
def test_anything_else_is_unknown(peer_id):
    assert client_name(peer_id) == "unknown"


LETTERS = b"0123456789ABCXYZabcxyz-"


@given(st.binary(max_size=24) | st.lists(st.sampled_from(LETTERS), max_size=20).map(bytes))
@settings(max_examples=200)
def test_whatever_a_peer_put_into_its_id_the_name_is_short_printable_ascii(peer_id):
    for name in (client_name(peer_id), client_name(b"-" + peer_id[:6] + b"-")):
        assert name.isascii()
        assert name.isprintable()
        assert 0 < len(name) <= 40
