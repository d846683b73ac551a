"""The extended handshake: what is said in it, and what is made of anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import bencode
from p2pfs.formats.extension import MAX_RUN_LENGTH, ExtendedHandshake, encode, parse
from p2pfs.geometry import BLOCK_LENGTH

LIBTORRENT = bencode.encode(
    {
        b"m": {b"ut_metadata": 2, b"ut_pex": 1, b"lt_donthave": 7},
        b"p": 6881,
        b"reqq": 2000,
        b"v": b"libtorrent/2.1.1.0",
        b"yourip": b"\x7f\0\0\1",
        b"complete_ago": -1,
    }
)


def test_what_a_peer_says_of_itself_is_read():
    handshake = parse(LIBTORRENT)

    assert handshake == ExtendedHandshake(
        client="libtorrent/2.1.1.0",
        port=6881,
        reqq=2000,
        run_length=BLOCK_LENGTH,
        messages={b"ut_metadata": 2, b"ut_pex": 1, b"lt_donthave": 7},
    )


def test_a_handshake_without_m_is_legal():
    assert parse(b"de") == ExtendedHandshake()
    assert parse(b"d11:LT_metadatai0ee") == ExtendedHandshake()


def test_an_unknown_port_is_not_sent():
    assert b"p" not in bencode.decode(encode(ExtendedHandshake(port=0)))


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        (b"p", 0, "port", 0),
        (b"p", 65536, "port", 0),
        (b"p", b"6881", "port", 0),
        (b"reqq", -1, "reqq", 250),
        (b"reqq", 10**18, "reqq", 250),
        (b"v", 7, "client", ""),
        (b"v", b"x" * 1000, "client", "x" * 64),
        (b"v", b"\xff", "client", "�"),
        (b"m", b"no dictionary", "messages", {}),
        (b"m", {b"a": 0, b"b": 256, b"c": -1, b"d": b"1", b"e": 255}, "messages", {b"e": 255}),
        (b"pf_run", 1, "run_length", BLOCK_LENGTH),
        (b"pf_run", 3 * BLOCK_LENGTH + 1, "run_length", 3 * BLOCK_LENGTH),
        (b"pf_run", 2**40, "run_length", BLOCK_LENGTH),
        (b"pf_run", MAX_RUN_LENGTH, "run_length", MAX_RUN_LENGTH),
    ],
)
def test_a_value_out_of_range_is_left_at_its_default(key, value, field, expected):
    assert getattr(parse(bencode.encode({key: value})), field) == expected


@pytest.mark.parametrize("payload", [b"", b"d", b"i1e", b"le", b"de1", b"\0" * 10])
def test_what_is_no_dictionary_is_refused(payload):
    with pytest.raises(WireError, match="extended handshake"):
        parse(payload)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_raise_only_the_declared_error(payload):
    try:
        handshake = parse(payload)
    except WireError:
        return
    assert BLOCK_LENGTH <= handshake.run_length <= MAX_RUN_LENGTH


@given(
    st.builds(
        ExtendedHandshake,
        client=st.text(max_size=16),
        port=st.integers(0, 65535),
        reqq=st.integers(1, 1_000_000),
        run_length=st.integers(1, 8).map(lambda blocks: blocks * BLOCK_LENGTH),
        messages=st.dictionaries(st.binary(min_size=1, max_size=8), st.integers(1, 255)),
    )
)
@settings(max_examples=100)
def test_what_is_sent_is_read_back(handshake):
    assert parse(encode(handshake)) == handshake
