"""Messages of the metadata exchange (BEP 9), which follow the id that the peers agreed on.

Invariant: a message is a bencoded dictionary, and behind that of `DATA` the raw bytes of one
piece, never more than `PIECE_LENGTH`; numbers in it are what the sender says and no more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from p2pfs.errors import BencodeError, WireError
from p2pfs.formats import bencode
from p2pfs.geometry import Geometry

__all__ = [
    "MAX_METADATA",
    "PIECE_LENGTH",
    "Data",
    "Message",
    "Reject",
    "Request",
    "encode_data",
    "encode_reject",
    "encode_request",
    "parse",
    "pieces_of",
]

PIECE_LENGTH: Final = 16 * 1024
MAX_METADATA: Final = 10_000_000
"""Bytes of metadata that are taken from peers: what other clients accept as a .torrent."""

_REQUEST, _DATA, _REJECT = 0, 1, 2
_MAX_PIECE: Final = 1 << 20
_MAX_TOTAL: Final = 1 << 40
_LIMITS: Final = bencode.Limits(max_bytes=128 * 1024, max_depth=8, max_tokens=256)


class Request(NamedTuple):
    piece: int


class Data(NamedTuple):
    """`total_size`: bytes of the metadata as the sender says, 0 when it does not."""

    piece: int
    total_size: int
    data: bytes


class Reject(NamedTuple):
    """The sender does not have the metadata, or does not give it now."""

    piece: int


Message = Request | Data | Reject


def pieces_of(size: int) -> Geometry:
    """How `size` bytes of metadata divide into pieces."""
    return Geometry(size, PIECE_LENGTH)


def encode_request(piece: int) -> bytes:
    return bencode.encode({b"msg_type": _REQUEST, b"piece": piece})


def encode_data(piece: int, total_size: int, data: bytes) -> bytes:
    """`data` are the bytes of the piece, which stand behind the dictionary."""
    head = {b"msg_type": _DATA, b"piece": piece, b"total_size": total_size}
    return bencode.encode(head) + data


def encode_reject(piece: int) -> bytes:
    return bencode.encode({b"msg_type": _REJECT, b"piece": piece})


def parse(payload: bytes) -> Message | None:
    """The message in `payload`, None for a type that is not known (to be ignored, BEP 9).

    Raises `WireError` for what is no such message.
    """
    try:
        head, end = bencode.decode_prefix(payload, _LIMITS)
    except BencodeError as error:
        raise WireError(f"metadata exchange that is not bencode: {error}") from error
    if not isinstance(head, dict):
        raise WireError("metadata exchange that is no dictionary")
    kind, piece, total = head.get(b"msg_type"), head.get(b"piece"), head.get(b"total_size")
    if not isinstance(kind, int):
        raise WireError("metadata exchange without a type")
    if kind not in (_REQUEST, _DATA, _REJECT):
        return None
    if not isinstance(piece, int) or not 0 <= piece < _MAX_PIECE:
        raise WireError("metadata exchange about a piece that cannot be")
    if kind == _REQUEST:
        return Request(piece)
    if kind == _REJECT:
        return Reject(piece)
    data = payload[end:]
    if not 0 < len(data) <= PIECE_LENGTH:
        raise WireError(f"a piece of metadata of {len(data)} bytes")
    known = isinstance(total, int) and 0 < total < _MAX_TOTAL
    return Data(piece, total if known and isinstance(total, int) else 0, data)
