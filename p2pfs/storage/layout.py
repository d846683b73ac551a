"""Where each byte of a torrent lies: a range of a piece as ranges of files (BEP 3, 47).

Invariant: the files, laid end to end in the torrent's order, are the content; every byte
belongs to exactly one file, and a file without bytes appears in no span.

Two numbers behind those of the files stand for what lies elsewhere: `zeros` for padding,
which is on no disk, and `rest` for the one file that keeps what pieces at the border of a
chosen file have of files that are not chosen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
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
    `geometry.total_length`, else `GeometryError`. `padding` are the numbers of files that
    are zeros, `absent` of those that are to have no file of their own.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        geometry: Geometry,
        *,
        padding: Collection[int] = (),
        absent: Collection[int] = (),
    ) -> None:
        if sum(lengths) != geometry.total_length:
            raise GeometryError(
                f"the files have {sum(lengths)} bytes, the torrent {geometry.total_length}"
            )
        self.geometry = geometry
        self.lengths = tuple(lengths)
        self.starts = tuple(accumulate(self.lengths, initial=0))[:-1]
        """Where each file begins in the content."""
        self.zeros = len(self.lengths)
        self.rest = self.zeros + 1
        self.padding = frozenset(padding)
        self.absent = frozenset(absent)
        self._elsewhere = self.padding | self.absent
        self.stored: Sequence[int] = range(len(self.lengths))
        """The files that lie on the disk under names of their own."""
        if self._elsewhere:
            self.stored = [n for n in self.stored if n not in self._elsewhere]
        self._owners = [number for number, length in enumerate(self.lengths) if length]
        self._starts = [self.starts[number] for number in self._owners]
        whole = len(self._owners) == 1 and not self._elsewhere
        self._single = self._owners[0] if whole else -1

    @classmethod
    def of(
        cls, files: Sequence[FileEntry], geometry: Geometry, *, absent: Collection[int] = ()
    ) -> Layout:
        """The layout of a metainfo's file list."""
        padding = [number for number, entry in enumerate(files) if entry.padding]
        return cls([entry.length for entry in files], geometry, padding=padding, absent=absent)

    @property
    def kept(self) -> Sequence[int]:
        """All that lies on the disk: the stored files, and `rest` where it is used."""
        return [*self.stored, self.rest] if self.absent else self.stored

    @cached_property
    def slots(self) -> dict[int, int]:
        """Where in `rest` a piece has its place (in pieces): those that lie in several files.

        The same whatever was chosen, so that a later choice finds what an earlier one kept.
        """
        seen: dict[int, int] = {}
        for number in self._owners:
            if number not in self.padding:
                touched = self.pieces_of(number)
                for index in {touched[0], touched[-1]}:
                    seen[index] = seen.get(index, 0) + 1
        shared = sorted(index for index, count in seen.items() if count > 1)
        return {index: slot for slot, index in enumerate(shared)}

    def size_of(self, number: int) -> int:
        """The size in bytes of a file on the disk, `rest` included."""
        if number == self.rest:
            return len(self.slots) * self.geometry.piece_length
        return self.lengths[number]

    def spans(self, index: int, begin: int, length: int) -> list[FileSlice]:
        """The file ranges that hold `length` bytes at `begin` of piece `index`, in order.

        Raises `GeometryError` when the range leaves the content, or has no place.
        """
        start = index * self.geometry.piece_length + begin
        if begin < 0 or index < 0 or length < 0 or start + length > self.geometry.total_length:
            raise GeometryError(f"no {length} bytes at {begin} of piece {index}")
        if self._single >= 0:
            return [FileSlice(self._single, start, length)]
        spans = self.content_spans(start, length)
        return self._redirected(spans) if self._elsewhere else spans

    def _redirected(self, spans: Iterable[FileSlice]) -> list[FileSlice]:
        found: list[FileSlice] = []
        size = self.geometry.piece_length
        for span in spans:
            number, offset, length = span
            if number in self.padding:
                found.append(FileSlice(self.zeros, 0, length))
            elif number in self.absent:
                place = self.starts[number] + offset
                while length:
                    index, within = divmod(place, size)
                    slot = self.slots.get(index)
                    if slot is None:
                        raise GeometryError(f"piece {index} is of files that were not chosen")
                    count = min(length, size - within)
                    found.append(FileSlice(self.rest, slot * size + within, count))
                    place += count
                    length -= count
            else:
                found.append(span)
        return found

    def has_place(self, index: int) -> bool:
        """Whether all of a piece has a place: it touches a stored file, or is in `slots`."""
        if not self.absent or index in self.slots:
            return True
        size = self.geometry.piece_size(index)
        spans = self.content_spans(index * self.geometry.piece_length, size)
        return not any(span.file_index in self.absent for span in spans)

    def touching_any(self, numbers: Iterable[int]) -> list[int]:
        """The pieces that have at least one byte in one of these files, ascending."""
        found: set[int] = set()
        for number in numbers:
            found.update(self.touching(number))
        return sorted(found)

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
        """The pieces that have at least one byte in this file of the torrent."""
        length = self.lengths[file_index]
        if not length:
            return range(0)
        first = self.starts[file_index]
        size = self.geometry.piece_length
        return range(first // size, (first + length - 1) // size + 1)

    def touching(self, number: int) -> Sequence[int]:
        """The pieces that have a byte in a file on the disk, ascending; `rest` is one."""
        if number == self.rest:
            touched = {index for absent in self.absent for index in self.pieces_of(absent)}
            return sorted(index for index in touched if index in self.slots)
        return range(0) if number == self.zeros else self.pieces_of(number)
