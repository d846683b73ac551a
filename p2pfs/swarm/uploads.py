"""What one peer has asked of us and has not been sent yet.

Invariant: at most `MAX_QUEUED` requests, none twice, grouped by piece in the order in
which the peer first asked for each piece.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from p2pfs.geometry import BlockRequest

__all__ = ["MAX_QUEUED", "UploadQueue"]

MAX_QUEUED: Final = 2000
"""Requests kept for a peer, as libtorrent does; those beyond are dropped."""


class UploadQueue:
    """Requests of one peer, by piece."""

    def __init__(self) -> None:
        self._pieces: dict[int, dict[BlockRequest, None]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return self._length > 0

    def __contains__(self, piece: int) -> bool:
        """Whether some of `piece` is asked for."""
        return piece in self._pieces

    def pieces(self) -> list[int]:
        """The pieces asked for, oldest first."""
        return list(self._pieces)

    @property
    def first(self) -> int:
        """The piece asked for first; raises `StopIteration` when the queue is empty."""
        return next(iter(self._pieces))

    def add(self, block: BlockRequest) -> bool:
        """Whether the request was taken: False for a repetition, or beyond the limit."""
        if self._length >= MAX_QUEUED:
            return False
        blocks = self._pieces.setdefault(block.piece, {})
        if block in blocks:
            return False
        blocks[block] = None
        self._length += 1
        return True

    def cancel(self, block: BlockRequest) -> bool:
        """Whether the request was still queued."""
        blocks = self._pieces.get(block.piece)
        if blocks is None or block not in blocks:
            return False
        del blocks[block]
        self._length -= 1
        if not blocks:
            del self._pieces[block.piece]
        return True

    def take(self, piece: int, room: int = 1) -> list[BlockRequest]:
        """Remove and return the oldest requests for `piece`, until they have `room` bytes.

        KeyError when there is none.
        """
        blocks = self._pieces[piece]
        taken: list[BlockRequest] = []
        for block in blocks:
            taken.append(block)
            room -= block.length
            if room <= 0:
                break
        self._length -= len(taken)
        if len(taken) == len(blocks):
            del self._pieces[piece]
        else:
            for block in taken:
                del blocks[block]
        return taken

    def drop(self, piece: int) -> list[BlockRequest]:
        """Forget every request for `piece`; returns them."""
        dropped = list(self._pieces.pop(piece, ()))
        self._length -= len(dropped)
        return dropped

    def clear(self, keep: Container[int] = ()) -> list[BlockRequest]:
        """Forget every request but those for the pieces to `keep`; returns what was forgotten."""
        return [block for piece in self.pieces() if piece not in keep for block in self.drop(piece)]
