"""Sizes and identities: how content divides into pieces and blocks.

Invariant: a `Geometry` that exists is consistent; every question about the last,
shorter piece or block is answered here and nowhere else. All sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import NamedTuple, NewType

from p2pfs.errors import GeometryError

__all__ = [
    "BLOCK_LENGTH",
    "MAX_PIECE_LENGTH",
    "MAX_TOTAL_LENGTH",
    "BlockRequest",
    "Geometry",
    "PeerId",
    "PieceIndex",
    "TorrentId",
    "blocks_in",
    "cut",
]

BLOCK_LENGTH = 16 * 1024
"""What one request asks for (BEP 3): the size every client serves."""

MAX_PIECE_LENGTH = 64 * 1024 * 1024
MAX_TOTAL_LENGTH = 2**48

PieceIndex = NewType("PieceIndex", int)
PeerId = NewType("PeerId", bytes)
"""20 raw bytes."""


@dataclass(frozen=True, slots=True)
class TorrentId:
    """What names a torrent on the wire and at trackers: the SHA-1 of the info dictionary.

    `v1` is 20 raw bytes. A SHA-256 identity (BEP 52) has its place beside it.
    """

    v1: bytes

    def __post_init__(self) -> None:
        if len(self.v1) != 20:
            raise GeometryError(f"an info hash has 20 bytes, not {len(self.v1)}")

    def __str__(self) -> str:
        return self.v1.hex()


class BlockRequest(NamedTuple):
    """`length` bytes at `begin` inside piece `piece` (BEP 3 calls it the index).

    A run of several blocks where both ends agreed on that, else one block.
    """

    piece: int
    begin: int
    length: int


_made: Callable[[Iterable[int]], BlockRequest] = partial(tuple.__new__, BlockRequest)
"""As BlockRequest(*three), in half the time."""


def cut(piece: int, begin: int, end: int, length: int) -> list[BlockRequest]:
    """What asks for the bytes from `begin` up to `end` of a piece, `length` at a time."""
    begins = range(begin, end, length)
    requests = list(map(_made, zip(repeat(piece), begins, repeat(length))))
    if requests and begins[-1] + length > end:
        requests[-1] = BlockRequest(piece, begins[-1], end - begins[-1])
    return requests


def blocks_in(request: BlockRequest) -> int:
    """Blocks of `BLOCK_LENGTH` that a request covers, a shorter last one included."""
    return (request.length + BLOCK_LENGTH - 1) // BLOCK_LENGTH


@dataclass(frozen=True, slots=True)
class Geometry:
    """Content of `total_length` bytes cut into pieces of `piece_length` (the last may be shorter).

    Raises `GeometryError` outside 1 <= piece_length <= 64 MiB, 0 <= total_length < 2^48.
    """

    total_length: int
    piece_length: int
    piece_count: int = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.piece_length <= MAX_PIECE_LENGTH:
            raise GeometryError(
                f"piece length {self.piece_length} is outside 1..{MAX_PIECE_LENGTH}"
            )
        if not 0 <= self.total_length < MAX_TOTAL_LENGTH:
            raise GeometryError(f"total length {self.total_length} is outside 0..2^48-1")
        object.__setattr__(self, "piece_count", -(-self.total_length // self.piece_length))

    def piece_size(self, index: int) -> int:
        """Bytes in piece `index`; raises `GeometryError` when there is no such piece."""
        if not 0 <= index < self.piece_count:
            raise GeometryError(f"piece {index} is outside 0..{self.piece_count - 1}")
        return min(self.piece_length, self.total_length - index * self.piece_length)

    def block_count(self, index: int) -> int:
        """Blocks in piece `index`."""
        return -(-self.piece_size(index) // BLOCK_LENGTH)

    def block(self, index: int, number: int) -> BlockRequest:
        """The request for block `number` (0-based) of piece `index`."""
        size = self.piece_size(index)
        begin = number * BLOCK_LENGTH
        if not 0 <= begin < size:
            raise GeometryError(f"piece {index} has no block {number}")
        return BlockRequest(index, begin, min(BLOCK_LENGTH, size - begin))

    def blocks(self, index: int) -> Iterator[BlockRequest]:
        """Every block of piece `index`, in order."""
        for number in range(self.block_count(index)):
            yield self.block(index, number)

    def contains(self, request: BlockRequest) -> bool:
        """Whether the range lies inside one existing piece and is not empty."""
        index, begin, length = request
        return (
            0 <= index < self.piece_count
            and begin >= 0
            and length > 0
            and begin + length <= self.piece_length
            and index * self.piece_length + begin + length <= self.total_length
        )
