"""Where each byte of a torrent lies: a range of a piece as ranges of files (BEP 3).

Invariant: the files, laid end to end in the torrent's order, are the content; every byte
belongs to exactly one file, and a file without bytes appears in no span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from p2pfs.errors import GeometryError
from p2pfs.geometry import Geometry

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import FileEntry

__all__ = ["FileSlice", "Layout"]


class FileSlice(NamedTuple):
    """`length` bytes from `offset` of file number `file_index` (in the torrent's order)."""

    file_index: int
    offset: int
    length: int


class Layout:
    """The files of one torrent against its pieces.

    `lengths` are the file sizes in bytes, in the torrent's order; they add up to
    `geometry.total_length`, else `GeometryError`.
    """

    __slots__ = ("_owners", "_single", "_starts", "geometry", "lengths", "starts")

    def __init__(self, lengths: Sequence[int], geometry: Geometry) -> None:
        if sum(lengths) != geometry.total_length:
            raise GeometryError(
                f"the files have {sum(lengths)} bytes, the torrent {geometry.total_length}"
            )
        self.geometry = geometry
        self.lengths = tuple(lengths)
        self.starts = tuple(accumulate(self.lengths, initial=0))[:-1]
        """Where each file begins in the content."""
        self._owners = [number for number, length in enumerate(self.lengths) if length]
        self._starts = [self.starts[number] for number in self._owners]
        self._single = self._owners[0] if len(self._owners) == 1 else -1

    @classmethod
    def of(cls, files: Sequence[FileEntry], geometry: Geometry) -> Layout:
        """The layout of a metainfo's file list."""
        return cls([entry.length for entry in files], geometry)

    def spans(self, index: int, begin: int, length: int) -> list[FileSlice]:
        """The file ranges that hold `length` bytes at `begin` of piece `index`, in order.

        Raises `GeometryError` when the range leaves the content.
        """
        start = index * self.geometry.piece_length + begin
        if begin < 0 or index < 0 or length < 0 or start + length > self.geometry.total_length:
            raise GeometryError(f"no {length} bytes at {begin} of piece {index}")
        if self._single >= 0:
            return [FileSlice(self._single, start, length)]
        return self.content_spans(start, length)

    def content_spans(self, start: int, length: int) -> list[FileSlice]:
        """The file ranges of `length` bytes from byte `start` of the content."""
        result: list[FileSlice] = []
        place = bisect_right(self._starts, start) - 1
        while length > 0:
            number = self._owners[place]
            offset = start - self._starts[place]
            count = min(length, self.lengths[number] - offset)
            result.append(FileSlice(number, offset, count))
            start += count
            length -= count
            place += 1
        return result

    def pieces_of(self, file_index: int) -> range:
        """The pieces that have at least one byte in this file."""
        length = self.lengths[file_index]
        if not length:
            return range(0)
        first = self.starts[file_index]
        size = self.geometry.piece_length
        return range(first // size, (first + length - 1) // size + 1)
