"""Pieces cut into jobs, and one worker's way through a job: open, read, hash.

Invariant: memory and open files stay at one small buffer and a few dozen files for each worker,
however large the content and however many files a piece has.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Final, NamedTuple

from p2pfs.buffers import page_aligned
from p2pfs.errors import StorageError
from p2pfs.storage.files import Files, NoSuchFile, OpenFile
from p2pfs.storage.handles import ReadPool
from p2pfs.storage.layout import FileSlice, Layout

__all__ = ["MOST_OPEN", "Job", "JobHasher", "cut_into_jobs"]

_CHUNK: Final = 1024 * 1024
_LARGEST_JOB: Final = 32 * 1024 * 1024
_SMALLEST_JOB: Final = 4 * 1024 * 1024
_JOBS_EACH: Final = 4
"""Jobs that are left for each worker, when one is cut off: they get smaller towards the end, so
that all workers end at about the same time."""
MOST_OPEN: Final = 64
"""Files that a worker has open at once, at most. As many are asked for ahead of being read."""
_AHEAD: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class Job:
    """Consecutive pieces hashed by one worker in one go."""

    pieces: range
    spans: list[FileSlice]

    @property
    def size(self) -> int:
        return sum(span.length for span in self.spans)

    @property
    def touched(self) -> list[int]:
        """The files it reads, in order."""
        return [span.file_index for span in self.spans]


def cut_into_jobs(layout: Layout, indices: Sequence[int] | range, workers: int) -> list[Job]:
    """The pieces `indices` (ascending) as jobs, for this many workers at once."""
    jobs: list[Job] = []
    geometry = layout.geometry
    left = len(indices) * geometry.piece_length
    first = after = size = enough = 0
    for index in indices:
        if size and (size >= enough or index != after):
            jobs.append(Job(range(first, after), layout.spans(first, 0, size)))
            left -= size
            size = 0
        if not size:
            first = index
            enough = min(_LARGEST_JOB, max(_SMALLEST_JOB, left // (workers * _JOBS_EACH)))
        after = index + 1
        size += geometry.piece_size(index)
    if size:
        jobs.append(Job(range(first, after), layout.spans(first, 0, size)))
    return jobs


class _Part(NamedTuple):
    """Consecutive bytes of one file; `handle` is None for one that is not there."""

    number: int
    handle: OpenFile | None
    offset: int
    length: int


class _Reading:
    """The bytes of a job in order, with the files of those that come next open."""

    def __init__(
        self, files: Files, pool: ReadPool, spans: list[FileSlice], strict: bool, most_open: int
    ) -> None:
        self._most_open = most_open
        self._files = files
        self._pool = pool
        self._strict = strict
        self._to_open = deque(spans)
        self._open: deque[_Part] = deque()
        self._behind: list[int] = []

    def first(self) -> OpenFile | None:
        """The file that comes next, if it is there."""
        if not self._open:
            self._open_more()
        return self._open[0].handle

    def has_in_one(self, count: int) -> bool:
        """Whether the next `count` bytes are in one file that is open."""
        return bool(self._open) and self._open[0].length >= count

    def take(self, count: int) -> list[_Part]:
        """What comes next, up to `count` (1 or more) bytes; of the files that are open now."""
        self._let_go()
        if not self._open:
            self._open_more()
        parts = []
        while count and self._open:
            part = self._open.popleft()
            if part.length > count:
                number, handle, offset, length = part
                self._open.appendleft(_Part(number, handle, offset + count, length - count))
                part = _Part(number, handle, offset, count)
            else:
                self._behind.append(part.number)
            parts.append(part)
            count -= part.length
        return parts

    def close(self) -> None:
        """Let go of all files, those too that were never opened."""
        self._behind += [part.number for part in self._open]
        self._open.clear()
        try:
            self._let_go()
        finally:
            while self._to_open:
                self._pool.release(self._to_open.popleft().file_index)

    def _let_go(self) -> None:
        while self._behind:
            self._pool.release(self._behind.pop())

    def _open_more(self) -> None:
        while self._to_open and len(self._open) < self._most_open:
            number, offset, length = self._to_open[0]
            try:
                handle = self._pool.acquire(number)
            except NoSuchFile:
                if self._strict:
                    raise
                handle = None
            self._to_open.popleft()
            self._open.append(_Part(number, handle, offset, length))
        if len(self._open) > 1:
            for part in self._open:
                if part.handle is not None:
                    self._files.advise(part.handle, part.offset, part.length)


class JobHasher:
    """One worker's way of working: reads through its own buffer, leaves digests.

    `turn` is held for what is many short calls, as opening and reading small files: side by side,
    threads wait for the interpreter's lock at each of them. One goes on hashing meanwhile.

    With `mapped` a part of a large file is hashed where the system keeps it, which saves a copy.
    That is for a process that may die of it: it does when the file is cut short meanwhile.
    """

    def __init__(
        self,
        files: Files,
        layout: Layout,
        done: Callable[[int, bytes | None], None],
        turn: threading.Lock,
        stop: threading.Event,
        *,
        mapped: bool = False,
        most_open: int = MOST_OPEN,
    ) -> None:
        self._files = files
        self._layout = layout
        self._done = done
        self._turn = turn
        self._stop = stop
        self._mapped = mapped
        self._most_open = most_open
        self._buffer = page_aligned(_CHUNK)

    def run(self, job: Job, pool: ReadPool, strict: bool) -> None:
        """Hash a job's pieces; see `hash_pieces` for `strict`."""
        reading = _Reading(self._files, pool, job.spans, strict, self._most_open)
        try:
            if len(job.spans) == 1 and self._hash_one_file(job, reading):
                return
            for index in job.pieces:
                if self._stop.is_set():
                    return
                self._done(index, self._piece(index, reading, strict))
        finally:
            with self._turn:
                reading.close()

    def _hash_one_file(self, job: Job, reading: _Reading) -> bool:
        """Have the part of a file that a job is read ahead, or hash it in place: whether that."""
        [(_, offset, length)] = job.spans
        handle = reading.first()
        if handle is None:
            return False
        ahead = offset if offset < length else offset + _AHEAD
        self._files.advise(handle, ahead, offset + _AHEAD + length - ahead)
        if not self._mapped:
            return False
        size = self._layout.geometry.piece_length
        try:
            with self._files.mapped(handle, offset, length) as view:
                for place, index in enumerate(job.pieces):
                    with view[place * size : (place + 1) * size] as piece:
                        self._done(index, sha1(piece, usedforsecurity=False).digest())
        except StorageError:
            return False
        return True

    def _piece(self, index: int, reading: _Reading, strict: bool) -> bytes | None:
        left = self._layout.geometry.piece_size(index)
        state, right = sha1(usedforsecurity=False), True
        while left:
            count = min(left, _CHUNK)
            with contextlib.nullcontext() if reading.has_in_one(count) else self._turn:
                parts = reading.take(count)
                right = right and self._read(parts, strict)
            count = sum(part.length for part in parts)
            if right:
                state.update(self._buffer[:count])
            left -= count
        return state.digest() if right else None

    def _read(self, parts: list[_Part], strict: bool) -> bool:
        """Fill the buffer with `parts`; False for what is not there, unless `strict`."""
        start = 0
        for _, handle, offset, length in parts:
            if handle is None:
                return False
            end = start + length
            try:
                if self._files.pread_into(handle, self._buffer[start:end], offset) != length:
                    raise StorageError(f"{handle.path} became shorter while it was read")
            except StorageError:
                if strict:
                    raise
                return False
            start = end
        return True
