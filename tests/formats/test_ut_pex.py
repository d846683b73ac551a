"""Peer exchange: what is written, and what is made of what others write."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfs.errors import FormatError, WireError
from p2pfs.formats import bencode
from p2pfs.formats.endpoint import is_dialable, pack_host, unpack_host
from p2pfs.formats.ut_pex import MAX_KEPT, REACHABLE, WANTS_NOTHING, PexMessage, encode, parse

V4, V6 = ("192.0.2.1", 6881), ("2001:db8::1", 51413)
PACKED4 = b"\xc0\0\2\1\x1a\xe1"
PACKED6 = b"\x20\1\x0d\xb8" + bytes(11) + b"\1\xc8\xd5"


def packed(count: int, first: int = 0) -> bytes:
    return b"".join(b"\x0a\0%b\x1a\xe1" % n.to_bytes(2, "big") for n in range(first, first + count))


# -- what is written


def test_a_message_has_a_list_of_each_family_and_a_byte_of_flags_for_each_peer():
    message = PexMessage({V4: WANTS_NOTHING, V6: REACHABLE}, (("10.0.0.1", 1), ("fd00::1", 2)))

    assert bencode.decode(encode(message)) == {
        b"added": PACKED4,
        b"added.f": b"\x02",
        b"added6": PACKED6,
        b"added6.f": b"\x10",
        b"dropped": b"\x0a\0\0\1\0\1",
        b"dropped6": b"\xfd" + bytes(14) + b"\1\0\2",
    }


def test_empty_lists_are_left_out():
    assert encode(PexMessage({V4: 0})) == b"d5:added6:%b7:added.f1:\0e" % PACKED4
    assert encode(PexMessage(dropped=(V6,))) == b"d8:dropped618:%be" % PACKED6


def test_ipv4_inside_ipv6_is_written_as_ipv4():
    assert parse(encode(PexMessage({("::ffff:192.0.2.1", 6881): 0}))).added == {V4: 0}


def test_a_name_cannot_be_written():
    with pytest.raises(FormatError):
        encode(PexMessage({("example.org", 80): 0}))


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(lambda one: one.packed),
    st.ip_addresses(v=6).map(lambda one: one.packed),
).filter(is_dialable)
ENDPOINTS = st.tuples(ADDRESSES.map(unpack_host), st.integers(1, 65535))


@given(
    st.dictionaries(ENDPOINTS, st.integers(0, 255), max_size=MAX_KEPT),
    st.lists(ENDPOINTS, max_size=MAX_KEPT, unique=True),
)
def test_what_is_written_is_read_again(added, dropped):
    gone = [address for address in dropped if address not in added]

    message = parse(encode(PexMessage(added, tuple(gone))))

    assert message.added == added
    assert sorted(message.dropped) == sorted(gone)


# -- what others write


@pytest.mark.parametrize("flags", [{}, {b"added.f": b""}, {b"added.f": b"12"}, {b"added.f": 1}])
def test_peers_without_one_byte_of_flags_each_are_left_out(flags):
    message = parse(bencode.encode({b"added": PACKED4, b"dropped": b"\x0a\0\0\1\0\1"} | flags))

    assert message == PexMessage({}, (("10.0.0.1", 1),))


def test_a_family_with_wrong_flags_does_not_spoil_the_other():
    data = {b"added": PACKED4, b"added.f": b"", b"added6": PACKED6, b"added6.f": b"\2"}

    assert parse(bencode.encode(data)).added == {V6: WANTS_NOTHING}


def test_what_follows_the_last_whole_entry_is_left_out():
    data = {b"added": PACKED4 + b"\1\2\3", b"added.f": b"\0", b"dropped6": PACKED6 + b"\1"}

    assert parse(bencode.encode(data)) == PexMessage({V4: 0}, (V6,))


@pytest.mark.parametrize(
    "nobody", [b"\0\0\0\0\1\1", b"\xe0\0\0\1\1\1", b"\xff\xff\xff\xff\1\1", b"\x0a\0\0\1\0\0"]
)
def test_who_cannot_be_dialled_is_left_out_and_the_flags_stay_with_their_peers(nobody):
    data = {b"added": nobody + PACKED4, b"added.f": b"\1\2", b"dropped": nobody}

    assert parse(bencode.encode(data)) == PexMessage({V4: 2}, ())


def test_of_a_long_list_fifty_are_kept():
    data = {b"added": packed(3000), b"added.f": bytes(3000), b"dropped": packed(3000, 3000)}

    message = parse(bencode.encode(data))

    assert len(message.added) == len(message.dropped) == MAX_KEPT == 50
    assert ("10.0.0.49", 6881) in message.added


def test_of_long_lists_both_families_have_their_share():
    six = b"".join(PACKED6[:15] + bytes((n,)) + PACKED6[16:] for n in range(40))
    data = {
        b"added": packed(60),
        b"added.f": bytes(60),
        b"added6": six,
        b"added6.f": bytes(40),
    }

    added = parse(bencode.encode(data)).added

    assert len([host for host, _ in added if ":" in host]) == 25
    assert len(added) == MAX_KEPT


def test_nobody_is_named_twice_nor_in_both_lists():
    data = {b"added": PACKED4 * 3, b"added.f": b"\0\1\2", b"dropped": PACKED4 + packed(1) * 2}

    assert parse(bencode.encode(data)) == PexMessage({V4: 2}, (("10.0.0.0", 6881),))


@pytest.mark.parametrize("value", [{}, {b"added": 5}, {b"added": [], b"added.f": {}}, {b"x": 1}])
def test_a_dictionary_with_nothing_of_use_says_nothing(value):
    assert parse(bencode.encode(value)) == PexMessage()


@pytest.mark.parametrize("payload", [b"", b"le", b"i1e", b"d", b"dex", b"d5:added9:1e", b"\xff"])
def test_what_is_no_dictionary_is_refused(payload):
    with pytest.raises(WireError, match="peer exchange"):
        parse(payload)


NAMES = [b"added", b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"]
VALUES = st.one_of(
    st.binary(max_size=400), st.integers(-9, 9), st.lists(st.integers(0, 9), max_size=3)
)


@given(st.one_of(st.binary(), st.dictionaries(st.sampled_from(NAMES), VALUES).map(bencode.encode)))
@example(bencode.encode({b"added": packed(9000), b"added.f": bytes(9000)}))
def test_whatever_comes_is_refused_or_read_within_the_bounds(payload):
    try:
        message = parse(payload)
    except WireError:
        return

    assert len(message.added) <= MAX_KEPT >= len(message.dropped)
    assert not message.added.keys() & set(message.dropped)
    assert len(set(message.dropped)) == len(message.dropped)
    for host, port in [*message.added, *message.dropped]:
        assert str(ipaddress.ip_address(host)) == host
        assert is_dialable(pack_host(host))
        assert 0 < port < 65536
