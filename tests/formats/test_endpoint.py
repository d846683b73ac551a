"""Addresses of peers: one text form, one packed form."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats.endpoint import (
    PeerAddress,
    is_dialable,
    is_loopback,
    pack_host,
    unpack_host,
    unpack_peers,
)


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("1.2.3.4", b"\1\2\3\4"),
        ("::1", bytes(15) + b"\1"),
        ("::ffff:1.2.3.4", b"\1\2\3\4"),
        ("fe80::1%eth0", b"\xfe\x80" + bytes(13) + b"\1"),
    ],
)
def test_an_address_is_packed(text: str, packed: bytes) -> None:
    assert pack_host(text) == packed


@pytest.mark.parametrize("text", ["", "1.2.3", "localhost", "1.2.3.4.5", "::g", "1.2.3.999", "\0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        pack_host(text)


@given(st.ip_addresses())
@settings(max_examples=50)
def test_packing_and_unpacking_are_inverse(address: object) -> None:
    packed = pack_host(str(address))

    assert pack_host(unpack_host(packed)) == packed


def test_ipv4_inside_ipv6_reads_as_ipv4() -> None:
    assert unpack_host(bytes(10) + b"\xff\xff\1\2\3\4") == "1.2.3.4"


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_another_number_of_bytes_is_no_address(length: int) -> None:
    with pytest.raises(FormatError):
        unpack_host(bytes(length))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3.4", True),
        ("127.0.0.1", True),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", True),
        ("2001:db8::1", True),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_one_host_can_be_dialled(text: str, expected: bool) -> None:
    assert is_dialable(ipaddress.ip_address(text).packed) is expected


def test_mapped_addresses_are_looked_through() -> None:
    assert not is_dialable(bytes(10) + b"\xff\xff" + bytes(4))
    assert is_dialable(bytes(10) + b"\xff\xff\1\2\3\4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("::2", False)],
)
def test_loopback_is_recognised(text: str, expected: bool) -> None:
    assert is_loopback(pack_host(text)) is expected


def test_a_packed_list_gives_whole_dialable_peers_only() -> None:
    packed = b"\1\2\3\4\0\5" + b"\0\0\0\0\0\5" + b"\1\2\3\4\0\0" + b"\1\2\3\5\1\0" + b"tail"

    peers = list(unpack_peers(packed, 4))

    assert peers == [PeerAddress("1.2.3.4", 5), PeerAddress("1.2.3.5", 256)]


def test_a_packed_list_of_ipv6_is_read_in_strides_of_18() -> None:
    packed = pack_host("2001:db8::1") + b"\0\5" + pack_host("2001:db8::2") + b"\0\6" + b"rest"

    assert list(unpack_peers(packed, 16)) == [
        PeerAddress("2001:db8::1", 5),
        PeerAddress("2001:db8::2", 6),
    ]


@given(st.binary(max_size=100), st.sampled_from([4, 16]))
@settings(max_examples=50)
def test_no_bytes_upset_the_packed_reader(packed: bytes, width: int) -> None:
    for peer in unpack_peers(packed, width):
        assert 0 < peer.port < 65536
