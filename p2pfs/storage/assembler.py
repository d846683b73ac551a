"""Pieces being put together in memory, under one budget of bytes.

Invariant: `used` counts every buffer that is handed out or being filled, and buffers kept
for reuse count against the same budget; nothing here ever holds more than the budget. All
calls come from one thread (the event loop's).
"""

from __future__ import annotations

from collections.abc import Hashable

from p2pfs.buffers import page_aligned
from p2pfs.errors import GeometryError

__all__ = ["Assembler"]


class Assembler:
    """A pool of reusable piece buffers, at most `budget_bytes` altogether.

    A piece goes by a key of the caller's choice (one budget serves many torrents). A taken
    buffer counts until `release`. A budget below one piece still lets one piece in,
    so that a transfer can always move.
    """

    __slots__ = ("_idle", "_idle_bytes", "_pieces", "budget", "used")

    used: int
    """Bytes of the pieces being filled and of those taken and not yet released."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget = budget_bytes
        self.used = 0
        self._pieces: dict[Hashable, memoryview] = {}
        self._idle: dict[int, list[memoryview]] = {}
        self._idle_bytes = 0

    def __contains__(self, key: object) -> bool:
        """Whether the piece is being filled."""
        return key in self._pieces

    def begin(self, key: Hashable, size: int) -> bool:
        """Make room for piece `key` of `size` bytes; False when it is over the budget.

        A piece that is being filled already keeps its buffer and what is in it.
        """
        if key in self._pieces:
            return True
        if self.used and self.used + size > self.budget:
            return False
        idle = self._idle.get(size)
        if idle:
            buffer = idle.pop()
            self._idle_bytes -= size
        else:
            self._shrink(self.budget - self.used - size)
            buffer = page_aligned(size)
        self.used += size
        self._pieces[key] = buffer
        return True

    def _shrink(self, limit: int) -> None:
        while self._idle_bytes > max(0, limit):
            size, buffers = next(iter(self._idle.items()))
            if buffers:
                buffers.pop()
                self._idle_bytes -= size
            else:
                del self._idle[size]

    def view(self, key: Hashable, begin: int, length: int) -> memoryview:
        """The place of a block, to receive into directly.

        Raises `GeometryError` when the piece is not being filled or the block leaves it.
        """
        piece = self._pieces.get(key)
        if piece is None or begin < 0 or begin + length > len(piece):
            raise GeometryError(f"no room for {length} bytes at {begin} of piece {key}")
        return piece[begin : begin + length]

    def put(self, key: Hashable, begin: int, data: memoryview | bytes | bytearray) -> None:
        """Copy (a part of) a block to its place; errors as for `view`."""
        end = begin + len(data)
        piece = self._pieces.get(key)
        if piece is None or begin < 0 or end > len(piece):
            raise GeometryError(f"no room for {len(data)} bytes at {begin} of piece {key}")
        piece[begin:end] = data

    def take(self, key: Hashable) -> memoryview:
        """The whole piece, which now belongs to the caller until `release`.

        Raises `GeometryError` when the piece is not being filled.
        """
        try:
            return self._pieces.pop(key)
        except KeyError:
            raise GeometryError(f"piece {key} is not being filled") from None

    def release(self, buffer: memoryview) -> None:
        """Give back what `take` handed out, once; its bytes will be overwritten."""
        size = len(buffer)
        self.used -= size
        if self.used + self._idle_bytes + size <= self.budget:
            self._idle.setdefault(size, []).append(buffer)
            self._idle_bytes += size

    def drop(self, key: Hashable) -> None:
        """Forget a piece that is being filled; nothing to do when it is not."""
        piece = self._pieces.pop(key, None)
        if piece is not None:
            self.release(piece)
