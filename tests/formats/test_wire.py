"""The handshake and the messages of the peer wire protocol (BEP 3)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import wire
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest

BITFIELD_LENGTH = 3  # 17 to 24 pieces
LONGEST_BLOCK = bytes(range(256)) * (BLOCK_LENGTH // 256)


def frame(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(payload), kind) + payload


def triple(piece: int, begin: int, length: int) -> bytes:
    return struct.pack(">III", piece, begin, length)


EVERY_MESSAGE = [
    (wire.KEEP_ALIVE, wire.KeepAlive()),
    (wire.CHOKE, wire.Choke()),
    (wire.UNCHOKE, wire.Unchoke()),
    (wire.INTERESTED, wire.Interested()),
    (wire.NOT_INTERESTED, wire.NotInterested()),
    (wire.encode_have(7), wire.Have(7)),
    (wire.encode_bitfield(b"\xff\x00\x80"), wire.Bitfield(b"\xff\x00\x80")),
    (
        wire.encode_requests([BlockRequest(1, 2 * BLOCK_LENGTH, 300)]),
        wire.Request(BlockRequest(1, 2 * BLOCK_LENGTH, 300)),
    ),
    (
        wire.encode_cancels([BlockRequest(2**32 - 1, 0, BLOCK_LENGTH)]),
        wire.Cancel(BlockRequest(2**32 - 1, 0, BLOCK_LENGTH)),
    ),
    (wire.block_header(BlockRequest(3, 4, 1)) + b"x", wire.Block(3, 4, memoryview(b"x"))),
    (
        wire.block_header(BlockRequest(5, 0, BLOCK_LENGTH)) + LONGEST_BLOCK,
        wire.Block(5, 0, memoryview(LONGEST_BLOCK)),
    ),
    (frame(9, b"\x1a\xe1"), wire.Port(6881)),
    (frame(13, b"\0\0\1\2"), wire.Suggest(258)),
    (wire.HAVE_ALL, wire.HaveAll()),
    (wire.HAVE_NONE, wire.HaveNone()),
    (wire.encode_rejects([BlockRequest(1, 2, 3)]), wire.Reject(BlockRequest(1, 2, 3))),
    (wire.encode_allowed_fast([7]), wire.AllowedFast(7)),
    (frame(20, b"\x00de"), wire.Extended(0, b"de")),
    (frame(20, b"\x07"), wire.Extended(7, b"")),
]
NAMES = [f"{type(message).__name__}-{len(data)}" for data, message in EVERY_MESSAGE]


def owned(messages: list[wire.Message]) -> list[wire.Message]:
    """The same messages with blocks that outlive the next `feed`."""
    return [
        wire.Block(m.piece, m.begin, memoryview(bytes(m.data))) if isinstance(m, wire.Block) else m
        for m in messages
    ]


def feed_all(decoder: wire.Decoder, cuts: Iterable[bytes]) -> list[wire.Message]:
    return [message for cut in cuts for message in owned(decoder.feed(cut))]


def fast_decoder() -> wire.Decoder:
    return wire.Decoder(BITFIELD_LENGTH, fast=True)


def decode(*cuts: bytes, fast: bool = True) -> list[wire.Message]:
    return feed_all(wire.Decoder(BITFIELD_LENGTH, fast=fast), cuts)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


# -- messages, in every cut


@pytest.mark.parametrize(("data", "message"), EVERY_MESSAGE, ids=NAMES)
def test_a_message_fed_whole_is_decoded(data, message):
    assert decode(data) == [message]


@pytest.mark.parametrize(("data", "message"), EVERY_MESSAGE, ids=NAMES)
def test_a_message_fed_byte_by_byte_is_decoded_with_its_last_byte(data, message):
    decoder = fast_decoder()

    for byte in one_by_one(data[:-1]):
        assert decoder.feed(byte) == []
    assert owned(decoder.feed(data[-1:])) == [message]
    assert decoder.buffered == 0


@pytest.mark.parametrize(("data", "message"), EVERY_MESSAGE, ids=NAMES)
def test_bytes_after_a_message_belong_to_the_next(data, message):
    for size in range(5):
        decoder = fast_decoder()
        following = wire.encode_have(9)
        assert owned(decoder.feed(data + following[:size])) == [message]
        assert decoder.buffered == size
        assert decoder.feed(following[size:]) == [wire.Have(9)]


def test_all_messages_in_one_feed_keep_their_order():
    data = b"".join(data for data, _ in EVERY_MESSAGE)

    assert decode(data) == [message for _, message in EVERY_MESSAGE]


@given(
    st.lists(st.sampled_from(EVERY_MESSAGE), max_size=8),
    st.lists(st.integers(1, 40_000), max_size=12),
)
@settings(max_examples=80, deadline=None)
def test_any_cut_of_any_messages_gives_the_same_messages(chosen, sizes):
    data = b"".join(data for data, _ in chosen)
    cuts = []
    for size in sizes:
        cuts.append(data[:size])
        data = data[size:]

    assert decode(*cuts, data) == [message for _, message in chosen]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_decoder_takes_any_kind_of_bytes(kind):
    assert decode(kind(wire.encode_have(1))) == [wire.Have(1)]


def test_a_block_that_came_whole_is_not_copied():
    data = bytearray(wire.block_header(BlockRequest(0, 0, 4)) + b"abcd")

    (block,) = wire.Decoder(1).feed(data)
    data[-1:] = b"!"

    assert bytes(block.data) == b"abc!"


# -- lengths


FAST = {13: 5, 14: 1, 15: 1, 16: 13, 17: 5}
"""Lengths of the messages of the fast extension."""


def allowed_lengths(kind: int, *, fast: bool = False) -> set[int]:
    """Lengths (id included) below 40 that a message `kind` may have."""
    if kind == 20:
        return set(range(2, 40))
    if kind == 7:
        return set(range(10, 40))
    one = {0: 1, 1: 1, 2: 1, 3: 1, 4: 5, 5: 1 + BITFIELD_LENGTH, 6: 13, 8: 13, 9: 3}
    if fast:
        one |= FAST
    return {one[kind]} if kind in one else set()


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
@pytest.mark.parametrize("kind", [*range(25), 255])
def test_a_message_has_the_length_of_its_id_or_is_refused(kind, fast):
    for length in range(1, 40):
        header = struct.pack(">IB", length, kind)
        whole = header + bytes(length - 1)
        for cuts in ([whole], [header], one_by_one(header)):
            if length in allowed_lengths(kind, fast=fast):
                decode(*cuts, fast=fast)
            else:
                with pytest.raises(WireError):
                    decode(*cuts, fast=fast)


@pytest.mark.parametrize("kind", [13, 14, 15, 16, 17, 21, 22, 23])
def test_ids_that_were_never_negotiated_are_refused_by_name(kind):
    with pytest.raises(WireError, match=f"message id {kind} was not negotiated"):
        decode(frame(kind), fast=False)


@pytest.mark.parametrize("kind", [10, 11, 12, 18, 19, 21, 22, 23])
def test_the_fast_extension_brings_no_other_ids(kind):
    with pytest.raises(WireError, match=f"message id {kind} was not negotiated"):
        decode(frame(kind))


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (5, BITFIELD_LENGTH + 2),
        (7, 9 + BLOCK_LENGTH + 1),
        (20, 1024 * 1024 + 2),
        (0, 2**31),
        (7, 2**32 - 1),
        (99, 2**32 - 1),
    ],
)
def test_nothing_is_buffered_for_a_length_that_its_id_does_not_allow(kind, length):
    header = struct.pack(">IB", length, kind)
    for cuts in ([header], [header + bytes(100)], one_by_one(header)):
        decoder = wire.Decoder(BITFIELD_LENGTH)
        with pytest.raises(WireError):
            feed_all(decoder, cuts)
        assert decoder.buffered <= 5


def test_a_length_beyond_every_message_is_refused_before_its_id_is_known():
    decoder = wire.Decoder(BITFIELD_LENGTH)

    with pytest.raises(WireError, match="longer than any that exists"):
        decoder.feed(struct.pack(">I", 1024 * 1024 + 2))


def test_a_bitfield_longer_than_an_extended_message_is_allowed_where_the_torrent_has_it():
    long = bytes(2 * 1024 * 1024)
    decoder = wire.Decoder(len(long))
    data = wire.encode_bitfield(long)

    assert decoder.feed(data[:4]) == []
    assert decoder.feed(data[4:]) == [wire.Bitfield(long)]


def test_a_block_without_bytes_is_refused():
    with pytest.raises(WireError):
        decode(wire.block_header(BlockRequest(0, 0, 0)))


def test_longer_blocks_pass_once_the_limit_is_raised():
    block = BlockRequest(0, 0, 4 * BLOCK_LENGTH)
    data = wire.block_header(block) + bytes(block.length)
    decoder = wire.Decoder(BITFIELD_LENGTH)
    with pytest.raises(WireError):
        wire.Decoder(BITFIELD_LENGTH).feed(data[:5])

    decoder.max_block = block.length
    messages = [m for start in range(0, len(data), 999) for m in decoder.feed(data[start:][:999])]

    assert [(m.piece, m.begin, len(m.data)) for m in messages] == [block]
    with pytest.raises(WireError):
        decoder.feed(wire.block_header(BlockRequest(0, 0, block.length + 1)))


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=300, deadline=None)
def test_noise_raises_nothing_but_wire_errors(cuts):
    decoder = wire.Decoder(BITFIELD_LENGTH)
    with contextlib.suppress(WireError):
        for cut in cuts:
            decoder.feed(cut)


@given(
    st.integers(0, 30).filter(lambda kind: allowed_lengths(kind)),
    st.integers(0, 2**32 - 1) | st.integers(0, 40_000),
    st.lists(st.integers(1, 2000), min_size=1, max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_what_is_buffered_never_exceeds_the_message_that_it_belongs_to(kind, length, sizes):
    decoder = wire.Decoder(BITFIELD_LENGTH)
    longest = {5: BITFIELD_LENGTH, 7: 8 + BLOCK_LENGTH, 20: 1024 * 1024}.get(kind, 12)
    stream = struct.pack(">IB", length, kind)
    for size in sizes:
        cut, stream = (stream + bytes(size))[:size], stream[size:]
        try:
            decoder.feed(cut)
        except WireError:
            break
        finally:
            assert decoder.buffered <= 5 + longest


# -- encoding

blocks = st.builds(
    BlockRequest, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
)


@given(st.lists(blocks, max_size=5))
@settings(max_examples=50)
def test_requests_cancels_and_rejects_survive_the_round_trip(chosen):
    assert decode(wire.encode_requests(chosen)) == [wire.Request(block) for block in chosen]
    assert decode(wire.encode_cancels(chosen)) == [wire.Cancel(block) for block in chosen]
    assert decode(wire.encode_rejects(chosen)) == [wire.Reject(block) for block in chosen]


@given(st.integers(0, 2**32 - 1), st.binary(min_size=3, max_size=3), st.binary(max_size=50))
@settings(max_examples=50)
def test_have_bitfield_and_extended_survive_the_round_trip(piece, bits, payload):
    data = wire.encode_have(piece) + wire.encode_bitfield(bits) + wire.encode_extended(3, payload)

    assert decode(data) == [wire.Have(piece), wire.Bitfield(bits), wire.Extended(3, payload)]


def test_messages_look_on_the_wire_as_in_bep_3():
    assert bytes(4) == wire.KEEP_ALIVE
    assert wire.CHOKE == b"\0\0\0\x01\x00"
    assert wire.UNCHOKE == b"\0\0\0\x01\x01"
    assert wire.INTERESTED == b"\0\0\0\x01\x02"
    assert wire.NOT_INTERESTED == b"\0\0\0\x01\x03"
    assert wire.encode_have(258) == b"\0\0\0\x05\x04\0\0\x01\x02"
    assert wire.encode_bitfield(b"\x80") == b"\0\0\0\x02\x05\x80"
    assert wire.encode_requests([BlockRequest(1, 2, 3)]) == (
        b"\0\0\0\x0d\x06\0\0\0\x01\0\0\0\x02\0\0\0\x03"
    )
    assert wire.encode_cancels([BlockRequest(1, 2, 3)]) == (
        b"\0\0\0\x0d\x08\0\0\0\x01\0\0\0\x02\0\0\0\x03"
    )
    assert wire.block_header(BlockRequest(1, 2, 3)) == b"\0\0\0\x0c\x07\0\0\0\x01\0\0\0\x02"


def test_the_messages_of_the_fast_extension_look_on_the_wire_as_in_bep_6():
    assert wire.HAVE_ALL == b"\0\0\0\x01\x0e"
    assert wire.HAVE_NONE == b"\0\0\0\x01\x0f"
    assert wire.encode_rejects([BlockRequest(1, 2, 3)]) == (
        b"\0\0\0\x0d\x10\0\0\0\x01\0\0\0\x02\0\0\0\x03"
    )
    assert wire.encode_allowed_fast([258, 3]) == (
        b"\0\0\0\x05\x11\0\0\x01\x02\0\0\0\x05\x11\0\0\0\x03"
    )


# -- the handshake

HANDSHAKE = wire.Handshake(
    info_hash=bytes(range(20)), peer_id=b"-XX0100-abcdefghijkl", reserved=b"\0\0\0\0\0\x10\0\x05"
)
HANDSHAKE_BYTES = (
    b"\x13BitTorrent protocol"
    + b"\0\0\0\0\0\x10\0\x05"
    + bytes(range(20))
    + b"-XX0100-abcdefghijkl"
)


def test_a_handshake_is_68_bytes_in_the_order_of_bep_3():
    assert wire.encode_handshake(HANDSHAKE) == HANDSHAKE_BYTES
    assert len(HANDSHAKE_BYTES) == wire.HANDSHAKE_LENGTH == 68


def test_a_handshake_is_read_as_soon_as_it_is_whole():
    for size in range(68):
        assert wire.decode_handshake(HANDSHAKE_BYTES[:size]) is None
    assert wire.decode_handshake(HANDSHAKE_BYTES) == HANDSHAKE


def test_bytes_after_a_handshake_are_left_alone():
    data = bytearray(HANDSHAKE_BYTES + wire.INTERESTED)

    assert wire.decode_handshake(data) == HANDSHAKE
    assert wire.decode_handshake(memoryview(data)) == HANDSHAKE


@pytest.mark.parametrize("place", range(20))
def test_the_first_byte_that_differs_from_the_protocol_name_refuses(place):
    wrong = bytearray(HANDSHAKE_BYTES)
    wrong[place] ^= 0x20

    assert wire.decode_handshake(wrong[:place]) is None
    with pytest.raises(WireError, match="not a BitTorrent handshake"):
        wire.decode_handshake(wrong[: place + 1])


@given(st.binary(max_size=80))
@settings(max_examples=100)
def test_noise_instead_of_a_handshake_raises_nothing_but_wire_errors(data):
    with contextlib.suppress(WireError):
        wire.decode_handshake(data)


def test_the_reserved_bit_of_bep_10_says_that_extended_messages_are_spoken():
    assert HANDSHAKE.extended
    assert not HANDSHAKE._replace(reserved=bytes(8)).extended
    assert not HANDSHAKE._replace(reserved=b"\xff\xff\xff\xff\xff\xef\xff\xff").extended
    assert wire.Handshake(bytes(20), bytes(20)).extended


def test_the_reserved_bit_of_bep_6_says_that_the_fast_extension_is_spoken():
    assert HANDSHAKE.fast
    assert not HANDSHAKE._replace(reserved=bytes(8)).fast
    assert not HANDSHAKE._replace(reserved=b"\xff\xff\xff\xff\xff\xff\xff\xfb").fast
    assert wire.Handshake(bytes(20), bytes(20)).fast
    assert wire.EXTENSIONS == b"\0\0\0\0\0\x10\0\x04"
