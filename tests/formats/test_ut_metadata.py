"""Messages of the metadata exchange."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import ut_metadata
from p2pfs.formats.ut_metadata import PIECE_LENGTH, Data, Reject, Request

numbers = st.integers(0, 1000)
messages = st.one_of(
    st.builds(Request, numbers),
    st.builds(Reject, numbers),
    st.builds(Data, numbers, st.integers(1, 10**7), st.binary(min_size=1, max_size=100)),
)


def encoded(message: ut_metadata.Message) -> bytes:
    if isinstance(message, Data):
        return ut_metadata.encode_data(*message)
    encode = (
        ut_metadata.encode_request if isinstance(message, Request) else ut_metadata.encode_reject
    )
    return encode(message.piece)


def test_messages_are_those_of_bep_9():
    assert ut_metadata.encode_request(0) == b"d8:msg_typei0e5:piecei0ee"
    assert ut_metadata.encode_reject(0) == b"d8:msg_typei2e5:piecei0ee"
    assert ut_metadata.encode_data(0, 3425, b"xxx") == (
        b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxx"
    )


@given(messages)
def test_what_was_written_is_read_again(message):
    assert ut_metadata.parse(encoded(message)) == message


def test_the_bytes_behind_the_dictionary_are_taken_as_they_are():
    assert ut_metadata.parse(b"d8:msg_typei1e5:piecei2eed1:ae") == Data(2, 0, b"d1:ae")
    full = ut_metadata.encode_data(1, 50_000, bytes(PIECE_LENGTH))
    assert ut_metadata.parse(full) == Data(1, 50_000, bytes(PIECE_LENGTH))


def test_keys_in_any_order_and_unknown_ones_are_accepted():
    assert ut_metadata.parse(b"d5:piecei3e8:msg_typei0e5:otherle5:usersi7ee") == Request(3)


@pytest.mark.parametrize("kind", [3, 255, -1])
def test_a_type_that_is_not_known_is_ignored(kind):
    assert ut_metadata.parse(b"d8:msg_typei%de5:piecei0ee" % kind) is None


@pytest.mark.parametrize("total", [b"i0e", b"i-5e", b"i99999999999999e", b"4:1000", b"le"])
def test_a_size_that_cannot_be_is_none(total):
    assert ut_metadata.parse(b"d8:msg_typei1e5:piecei0e10:total_size" + total + b"ex") == Data(
        0, 0, b"x"
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"junk",
        b"le",
        b"i0e",
        b"de",
        b"d8:msg_type1:0e",
        b"d8:msg_typei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei9999999999ee",
        b"d8:msg_typei0e5:piece1:0e",
        b"d8:msg_typei0e5:piecei0e",
        b"d8:msg_typei1e5:piecei0ee",
        ut_metadata.encode_data(0, 50_000, bytes(PIECE_LENGTH + 1)),
        b"d" + b"l" * 60_000,
        b"d8:msg_typei0e5:piecei0e1:x" + b"l" * 20 + b"e" * 21,
        b"d8:msg_typei0e5:piecei0e1:xl" + b"i0e" * 1000 + b"ee",
    ],
)
def test_what_is_no_such_message_is_refused(payload):
    with pytest.raises(WireError):
        ut_metadata.parse(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for payload in (data, b"d8:msg_typei1e5:piecei0e" + data):
        with contextlib.suppress(WireError):
            ut_metadata.parse(payload)


def test_metadata_divides_into_pieces_of_16_kib():
    geometry = ut_metadata.pieces_of(2 * PIECE_LENGTH + 1)

    assert [geometry.piece_size(piece) for piece in range(geometry.piece_count)] == [
        16384,
        16384,
        1,
    ]
