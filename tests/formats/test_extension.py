"""The extended handshake: what is said in it, and what is made of anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import bencode
from p2pfs.formats.extension import (
    MAX_RUN_LENGTH,
    ExtendedHandshake,
    encode,
    encode_upload_only,
    parse,
)
from p2pfs.geometry import BLOCK_LENGTH

LIBTORRENT = bencode.encode(
    {
        b"m": {b"ut_metadata": 2, b"ut_pex": 1, b"lt_donthave": 7},
        b"p": 6881,
        b"reqq": 2000,
        b"v": b"libtorrent/2.1.1.0",
        b"yourip": b"\x7f\0\0\1",
        b"metadata_size": 31_235,
        b"upload_only": 1,
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
        your_ip=b"\x7f\0\0\1",
        metadata_size=31_235,
        upload_only=True,
    )


def test_a_handshake_without_m_is_legal():
    assert parse(b"de") == ExtendedHandshake()
    assert parse(b"d11:LT_metadatai0ee") == ExtendedHandshake()


def test_a_later_handshake_changes_what_it_says_and_nothing_else():
    first = parse(LIBTORRENT)
    later = {b"m": {b"ut_pex": 0, b"ut_metadata": 9, b"x": 1}, b"reqq": 7, b"upload_only": 0}

    assert parse(bencode.encode(later), first) == replace(
        first,
        reqq=7,
        upload_only=False,
        messages={b"ut_metadata": 9, b"lt_donthave": 7, b"x": 1},
    )
    assert parse(b"de", first) == first


def test_a_change_of_upload_only_says_nothing_else():
    first = parse(LIBTORRENT)

    assert parse(encode_upload_only(False), first) == replace(first, upload_only=False)
    assert parse(encode_upload_only(True), first) == first


def test_the_names_that_a_peer_may_list_are_bounded():
    handshake = ExtendedHandshake()
    for start in range(0, 200, 50):
        names = {b"%03d" % (start + n): 1 for n in range(50)} | {b"x" * 65: 1}
        handshake = parse(bencode.encode({b"m": names}), handshake)

    assert list(handshake.messages) == [b"%03d" % n for n in range(64)]


def test_what_is_unknown_is_not_sent():
    assert set(bencode.decode(encode(ExtendedHandshake()))) == {b"m", b"reqq", b"v", b"pf_run"}


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
        (b"yourip", b"123", "your_ip", b""),
        (b"yourip", bytes(16), "your_ip", bytes(16)),
        (b"metadata_size", -1, "metadata_size", 0),
        (b"metadata_size", b"1", "metadata_size", 0),
        (b"upload_only", 7, "upload_only", True),
        (b"upload_only", b"1", "upload_only", False),
        (b"pf_run", 1, "run_length", BLOCK_LENGTH),
        (b"pf_run", 3 * BLOCK_LENGTH + 1, "run_length", 3 * BLOCK_LENGTH),
        (b"pf_run", 2**40, "run_length", BLOCK_LENGTH),
        (b"pf_run", MAX_RUN_LENGTH, "run_length", MAX_RUN_LENGTH),
        (b"pf_run", 4 * MAX_RUN_LENGTH, "run_length", MAX_RUN_LENGTH),
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
        run_length=st.integers(1, 16).map(lambda blocks: blocks * BLOCK_LENGTH),
        messages=st.dictionaries(st.binary(min_size=1, max_size=8), st.integers(1, 255)),
        your_ip=st.sampled_from([b"", bytes(4), bytes(16)]),
        metadata_size=st.integers(0, 2**30),
        upload_only=st.booleans(),
    )
)
@settings(max_examples=100)
def test_what_is_sent_is_read_back(handshake):
    assert parse(encode(handshake)) == handshake
