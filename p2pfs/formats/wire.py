"""The peer wire protocol as values: the handshake, the messages, and an incremental decoder.

Invariant: no byte is buffered for a message whose length its id does not allow, so a
peer can make a decoder hold one block, one bitfield or one extended message, never more.
Integers are 4 bytes, big endian (BEP 3); the fast extension's ids are those of BEP 6,
the extension protocol's those of BEP 10.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from p2pfs.errors import WireError
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest

__all__ = [
    "HANDSHAKE_LENGTH",
    "AllowedFast",
    "Bitfield",
    "Block",
    "Cancel",
    "Choke",
    "Decoder",
    "Extended",
    "Handshake",
    "Have",
    "HaveAll",
    "HaveNone",
    "Interested",
    "KeepAlive",
    "Message",
    "NotInterested",
    "Port",
    "Reject",
    "Request",
    "Suggest",
    "Unchoke",
    "block_header",
    "decode_handshake",
    "encode_allowed_fast",
    "encode_bitfield",
    "encode_cancels",
    "encode_extended",
    "encode_handshake",
    "encode_have",
    "encode_rejects",
    "encode_requests",
    "is_other_protocol",
    "may_be_handshake",
]

PROTOCOL: Final = b"\x13BitTorrent protocol"
HANDSHAKE_LENGTH: Final = 68

ID_CHOKE: Final = 0
ID_UNCHOKE: Final = 1
ID_INTERESTED: Final = 2
ID_NOT_INTERESTED: Final = 3
ID_HAVE: Final = 4
ID_BITFIELD: Final = 5
ID_REQUEST: Final = 6
ID_PIECE: Final = 7
ID_CANCEL: Final = 8
ID_PORT: Final = 9  # BEP 5
ID_SUGGEST: Final = 13  # BEP 6, as the next four
ID_HAVE_ALL: Final = 14
ID_HAVE_NONE: Final = 15
ID_REJECT: Final = 16
ID_ALLOWED_FAST: Final = 17
ID_EXTENDED: Final = 20  # BEP 10

MAX_EXTENDED: Final = 64 * 1024
"""Bytes of one extended message: more than any that is defined has (BEP 9: 16 KiB and a bit)."""

KEEP_ALIVE: Final = b"\0\0\0\0"
CHOKE: Final = b"\0\0\0\1\0"
UNCHOKE: Final = b"\0\0\0\1\1"
INTERESTED: Final = b"\0\0\0\1\2"
NOT_INTERESTED: Final = b"\0\0\0\1\3"
HAVE_ALL: Final = b"\0\0\0\1\x0e"
HAVE_NONE: Final = b"\0\0\0\1\x0f"

_FIXED: Final[dict[int, int]] = {
    ID_CHOKE: 1,
    ID_UNCHOKE: 1,
    ID_INTERESTED: 1,
    ID_NOT_INTERESTED: 1,
    ID_HAVE: 5,
    ID_REQUEST: 13,
    ID_CANCEL: 13,
    ID_PORT: 3,
}
_FIXED_FAST: Final = _FIXED | {
    ID_SUGGEST: 5,
    ID_HAVE_ALL: 1,
    ID_HAVE_NONE: 1,
    ID_REJECT: 13,
    ID_ALLOWED_FAST: 5,
}

_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">IB")
_INDEX = struct.Struct(">I")
_HAVE = struct.Struct(">IBI")
_BLOCK = struct.Struct(">IBII")
_TRIPLE = struct.Struct(">III")
_REQUEST = struct.Struct(">IBIII")


EXTENSIONS: Final = bytes((0, 0, 0, 0, 0, 0x10, 0, 0x04))
"""Reserved bytes of a client that speaks the extension protocol (BEP 10) and BEP 6."""


class Handshake(NamedTuple):
    """`reserved` has 8 bytes, `info_hash` and `peer_id` 20 each."""

    info_hash: bytes
    peer_id: bytes
    reserved: bytes = EXTENSIONS

    @property
    def extended(self) -> bool:
        """Whether the sender speaks the extension protocol."""
        return bool(self.reserved[5] & 0x10)

    @property
    def fast(self) -> bool:
        """Whether the sender speaks the fast extension."""
        return bool(self.reserved[7] & 0x04)


def encode_handshake(handshake: Handshake) -> bytes:
    """The 68 bytes that open a connection (BEP 3)."""
    return PROTOCOL + handshake.reserved + handshake.info_hash + handshake.peer_id


def may_be_handshake(data: bytes) -> bool:
    """Whether `data` is how a handshake begins, as far as it goes."""
    return PROTOCOL.startswith(data[: len(PROTOCOL)])


_OTHER_PROTOCOLS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"\x16\x03\x01", b"\x16\x03\x03")
"""How HTTP and TLS begin, which people point at a wrong port."""


def is_other_protocol(data: bytes) -> bool:
    """Whether `data` begins like a protocol that has nothing to do with this one."""
    return data.startswith(_OTHER_PROTOCOLS)


def decode_handshake(data: bytes | bytearray | memoryview) -> Handshake | None:
    """The handshake at the start of `data`, or None while it is incomplete.

    Raises `WireError` at the first byte that differs from the protocol's name.
    """
    if not may_be_handshake(bytes(data[: len(PROTOCOL)])):
        raise WireError("not a BitTorrent handshake")
    if len(data) < HANDSHAKE_LENGTH:
        return None
    return Handshake(
        reserved=bytes(data[20:28]), info_hash=bytes(data[28:48]), peer_id=bytes(data[48:68])
    )


class KeepAlive(NamedTuple):
    pass


class Choke(NamedTuple):
    pass


class Unchoke(NamedTuple):
    pass


class Interested(NamedTuple):
    pass


class NotInterested(NamedTuple):
    pass


class Have(NamedTuple):
    piece: int


class Bitfield(NamedTuple):
    """`data` has ceil(pieces / 8) bytes, the high bit of the first is piece 0."""

    data: bytes


class HaveAll(NamedTuple):
    """Instead of a bitfield (BEP 6)."""


class HaveNone(NamedTuple):
    """Instead of a bitfield (BEP 6)."""


class Suggest(NamedTuple):
    """The sender would like to be asked for `piece` (BEP 6)."""

    piece: int


class AllowedFast(NamedTuple):
    """`piece` may be asked for while the sender chokes, if it has it (BEP 6)."""

    piece: int


class Request(NamedTuple):
    block: BlockRequest


class Reject(NamedTuple):
    """The sender will not answer this request (BEP 6)."""

    block: BlockRequest


class Cancel(NamedTuple):
    block: BlockRequest


class Block(NamedTuple):
    """A whole block. `data` points into what was fed last: use it before feeding again."""

    piece: int
    begin: int
    data: memoryview


class Port(NamedTuple):
    port: int


class Extended(NamedTuple):
    """`id` is the receiver's number for the message (BEP 10); 0 is the extended handshake."""

    id: int
    payload: bytes


Message = (
    KeepAlive
    | Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | HaveAll
    | HaveNone
    | Bitfield
    | Suggest
    | AllowedFast
    | Request
    | Reject
    | Cancel
    | Block
    | Port
    | Extended
)

_SIMPLE: Final[dict[int, Message]] = {
    ID_CHOKE: Choke(),
    ID_UNCHOKE: Unchoke(),
    ID_INTERESTED: Interested(),
    ID_NOT_INTERESTED: NotInterested(),
    ID_HAVE_ALL: HaveAll(),
    ID_HAVE_NONE: HaveNone(),
}
_KEEP_ALIVE: Final = KeepAlive()


def encode_have(index: int) -> bytes:
    return _HAVE.pack(5, ID_HAVE, index)


def encode_bitfield(data: bytes) -> bytes:
    return _HEAD.pack(1 + len(data), ID_BITFIELD) + data


def encode_requests(blocks: Iterable[BlockRequest]) -> bytes:
    """Requests for all of `blocks`, back to back."""
    pack = _REQUEST.pack
    return b"".join([pack(13, ID_REQUEST, *block) for block in blocks])


def encode_cancels(blocks: Iterable[BlockRequest]) -> bytes:
    """Cancels for all of `blocks`, back to back."""
    pack = _REQUEST.pack
    return b"".join([pack(13, ID_CANCEL, *block) for block in blocks])


def encode_rejects(blocks: Iterable[BlockRequest]) -> bytes:
    """Rejects of all of `blocks`, back to back (BEP 6)."""
    pack = _REQUEST.pack
    return b"".join([pack(13, ID_REJECT, *block) for block in blocks])


def encode_allowed_fast(pieces: Iterable[int]) -> bytes:
    """Leave to ask for all of `pieces` while choked, back to back (BEP 6)."""
    return b"".join([_HAVE.pack(5, ID_ALLOWED_FAST, piece) for piece in pieces])


def encode_extended(number: int, payload: bytes) -> bytes:
    """An extended message under the receiver's `number` (BEP 10)."""
    return _HEAD.pack(2 + len(payload), ID_EXTENDED) + bytes((number,)) + payload


def block_header(block: BlockRequest) -> bytes:
    """What stands before the `block.length` bytes of a piece message."""
    return _BLOCK.pack(9 + block.length, ID_PIECE, block.piece, block.begin)


class Decoder:
    """Bytes in, messages out, in any cut.

    `bitfield_length` is ceil(pieces / 8); `max_block` the longest block accepted, in bytes,
    which may be raised when the peers agree on more; `fast`: both speak the fast extension.
    """

    def __init__(
        self, bitfield_length: int, max_block: int = BLOCK_LENGTH, *, fast: bool = False
    ) -> None:
        self._bitfield_length = bitfield_length
        self._fixed = _FIXED_FAST if fast else _FIXED
        self.max_block = max_block
        self.error: WireError | None = None
        """The breach that ended the stream; nothing is decoded after it."""
        self._partial = bytearray()
        self._wanted = 0  # bytes that complete `_partial`, 0 when it is empty

    @property
    def buffered(self) -> int:
        """Bytes held of an unfinished message."""
        return len(self._partial)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """The messages that `data` completes.

        An id or a length that the protocol does not have is kept in `error`, and raised
        (`WireError`) unless there were messages before it: those count, so they are returned.
        """
        messages: list[Message] = []
        try:
            if self.error is not None:
                raise self.error
            self._decode(memoryview(data), messages)
        except WireError as error:
            self.error = error.with_traceback(None)
            if not messages:
                raise
        return messages

    def _decode(self, view: memoryview, messages: list[Message]) -> None:
        position = 0
        if self._partial:
            position = self._complete_partial(view, messages)
        end = len(view)
        unpack_block, unpack_request = _BLOCK.unpack_from, _TRIPLE.unpack_from
        append = messages.append
        while end - position >= 13:
            length, kind, index, begin = unpack_block(view, position)
            if kind == ID_PIECE and 9 < length <= 9 + self.max_block:
                stop = position + 4 + length
                if stop > end:
                    break
                append(Block(index, begin, view[position + 13 : stop]))
                position = stop
                continue
            if kind == ID_REQUEST and length == 13 and end - position >= 17:
                append(Request(BlockRequest(*unpack_request(view, position + 5))))
                position += 17
                continue
            if length == 0:
                append(_KEEP_ALIVE)
                position += 4
                continue
            self._check(length, kind)
            stop = position + 4 + length
            if stop > end:
                break
            append(self._message(view[position:stop], kind))
            position = stop
        while position < end:
            wanted = self._message_length(view[position:])
            if wanted == 0 or position + wanted > end:
                self._partial += view[position:]
                self._wanted = wanted
                break
            append(self._whole(view[position : position + wanted]))
            position += wanted

    def _complete_partial(self, view: memoryview, messages: list[Message]) -> int:
        """Feed the unfinished message; returns how many bytes of `view` it took."""
        position = 0
        partial = self._partial
        while not self._wanted and position < len(view):
            partial.append(view[position])
            position += 1
            self._wanted = self._message_length(memoryview(partial))
        if not self._wanted:
            return position
        missing = self._wanted - len(partial)
        partial += view[position : position + missing]
        position = min(len(view), position + missing)
        if len(partial) == self._wanted:
            messages.append(self._whole(memoryview(partial)))
            self._partial = bytearray()
            self._wanted = 0
        return position

    def _message_length(self, view: memoryview) -> int:
        """Bytes of the message that starts `view`, prefix included; 0 while unknown."""
        if len(view) < 4:
            return 0
        (length,) = _LENGTH.unpack_from(view)
        if length == 0:
            return 4
        if len(view) < 5:
            if length > 1 + max(MAX_EXTENDED, self.max_block + 8, self._bitfield_length):
                raise WireError(f"a message of {length} bytes is longer than any that exists")
            return 0
        self._check(length, view[4])
        return 4 + int(length)

    def _check(self, length: int, kind: int) -> None:
        fixed = self._fixed.get(kind)
        if fixed is not None:
            allowed = length == fixed
        elif kind == ID_PIECE:
            allowed = 9 < length <= 9 + self.max_block
        elif kind == ID_BITFIELD:
            allowed = length == 1 + self._bitfield_length
        elif kind == ID_EXTENDED:
            allowed = 2 <= length <= 1 + MAX_EXTENDED
        else:
            raise WireError(f"message id {kind} was not negotiated")
        if not allowed:
            raise WireError(f"message id {kind} cannot have {length} bytes")

    def _whole(self, view: memoryview) -> Message:
        return _KEEP_ALIVE if len(view) == 4 else self._message(view, view[4])

    def _message(self, view: memoryview, kind: int) -> Message:
        """The message in `view`, which holds exactly it and has passed `_check`."""
        if kind == ID_REQUEST:
            return Request(BlockRequest(*_TRIPLE.unpack_from(view, 5)))
        if kind == ID_HAVE:
            return Have(_INDEX.unpack_from(view, 5)[0])
        if kind == ID_PIECE:
            _, _, index, begin = _BLOCK.unpack_from(view)
            return Block(index, begin, view[13:])
        simple = _SIMPLE.get(kind)
        if simple is not None:
            return simple
        if kind == ID_CANCEL:
            return Cancel(BlockRequest(*_TRIPLE.unpack_from(view, 5)))
        if kind == ID_BITFIELD:
            return Bitfield(bytes(view[5:]))
        if kind == ID_REJECT:
            return Reject(BlockRequest(*_TRIPLE.unpack_from(view, 5)))
        if kind == ID_SUGGEST:
            return Suggest(_INDEX.unpack_from(view, 5)[0])
        if kind == ID_ALLOWED_FAST:
            return AllowedFast(_INDEX.unpack_from(view, 5)[0])
        if kind == ID_PORT:
            return Port(int.from_bytes(view[5:7], "big"))
        return Extended(view[5], bytes(view[6:]))
