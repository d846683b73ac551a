"""Pieces cut into jobs, and one worker's way through a job: open, read, hash.

Invariant: memory stays at one small buffer for each worker however large the content is, and so
do open files, unless single pieces have more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Final

from p2pfs.buffers import page_aligned
from p2pfs.errors import StorageError
from p2pfs.storage.files import Files, NoSuchFile, OpenFile
from p2pfs.storage.handles import ReadPool
from p2pfs.storage.layout import FileSlice, Layout

__all__ = ["Job", "JobHasher", "cut_into_jobs"]

_CHUNK: Final = 1024 * 1024
_LARGEST_JOB: Final = 32 * 1024 * 1024
_SMALLEST_JOB: Final = 4 * 1024 * 1024
_JOBS_EACH: Final = 8
"""Jobs of each worker at least, where they are not smaller than the smallest: the workers then
end within an eighth of each other."""
_MOST_OPEN: Final = 256
"""Files that all workers together have open, unless single pieces have more."""
_AHEAD: Final = 16 * 1024 * 1024


def cut_into_jobs(layout: Layout, indices: Sequence[int] | range, workers: int) -> list[Job]:
    """The pieces `indices` (ascending) as jobs, for this many workers at once."""
    most_files = max(1, _MOST_OPEN // workers)
    enough = _job_size(layout, indices, workers, most_files)
    return list(_jobs(layout, indices, enough, most_files))


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


def _jobs(layout: Layout, indices: Iterable[int], enough: int, most_files: int) -> Iterator[Job]:
    """`indices` cut into jobs of about `enough` bytes, in `most_files` at most if that can be."""
    geometry = layout.geometry
    first = after = size = 0
    for index in indices:
        if size and (size >= enough or index != after):
            yield from _split(layout, range(first, after), size, most_files)
            size = 0
        if not size:
            first = index
        after = index + 1
        size += geometry.piece_size(index)
    if size:
        yield from _split(layout, range(first, after), size, most_files)


def _split(layout: Layout, pieces: range, size: int, most_files: int) -> Iterator[Job]:
    """The job of `pieces`, of `size` bytes; several when it touches too many files."""
    spans = layout.spans(pieces.start, 0, size)
    if len(spans) > most_files and len(pieces) > 1:
        middle = len(pieces) // 2
        first = middle * layout.geometry.piece_length
        yield from _split(layout, pieces[:middle], first, most_files)
        yield from _split(layout, pieces[middle:], size - first, most_files)
    else:
        yield Job(pieces, spans)


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
    ) -> None:
        self._files = files
        self._layout = layout
        self._done = done
        self._turn = turn
        self._stop = stop
        self._mapped = mapped
        self._buffer = page_aligned(_CHUNK)

    def run(self, job: Job, pool: ReadPool, strict: bool) -> None:
        """Hash a job's pieces; see `hash_pieces` for `strict`."""
        handles: dict[int, OpenFile] = {}
        try:
            if len(job.touched) == 1:
                self._open(job, pool, handles, strict)
                self._ask_ahead(job, handles)
                if self._mapped and self._hash_mapped(job, handles):
                    return
            else:
                with self._turn:
                    self._open(job, pool, handles, strict)
                    for number, offset, length in job.spans:
                        if number in handles:
                            self._files.advise(handles[number], offset, length)
            for index in job.pieces:
                if self._stop.is_set():
                    return
                try:
                    digest = self._piece(index, handles)
                except StorageError:
                    if strict:
                        raise
                    digest = None
                self._done(index, digest)
        finally:
            with self._turn:
                for number in job.touched:
                    pool.release(number)

    def _open(self, job: Job, pool: ReadPool, handles: dict[int, OpenFile], strict: bool) -> None:
        for number in job.touched:
            try:
                handles[number] = pool.acquire(number)
            except NoSuchFile:
                if strict:
                    raise

    def _ask_ahead(self, job: Job, handles: dict[int, OpenFile]) -> None:
        """Have what is needed soon read from the disk, where one file goes on for long."""
        for number, offset, _ in job.spans:
            if number not in handles:
                continue
            first = offset if offset < job.size else offset + _AHEAD
            after = offset + _AHEAD + job.size
            self._files.advise(handles[number], first, after - first)

    def _hash_mapped(self, job: Job, handles: dict[int, OpenFile]) -> bool:
        """Hash the part of a file that a job is; False where it cannot be mapped."""
        [(number, offset, length)] = job.spans
        size = self._layout.geometry.piece_length
        try:
            with self._files.mapped(handles[number], offset, length) as view:
                for place, index in enumerate(job.pieces):
                    with view[place * size : (place + 1) * size] as piece:
                        self._done(index, sha1(piece, usedforsecurity=False).digest())
        except StorageError:
            return False
        return True

    def _piece(self, index: int, handles: dict[int, OpenFile]) -> bytes | None:
        size = self._layout.geometry.piece_size(index)
        rest: list[tuple[OpenFile, int, int]] = []
        for number, offset, length in self._layout.spans(index, 0, size):
            handle = handles.get(number)
            if handle is None:
                return None
            rest.append((handle, offset, length))
        rest.reverse()
        several = len(rest) > 1
        state = sha1(usedforsecurity=False)
        while rest:
            if several:
                with self._turn:
                    filled = self._fill(rest)
            else:
                filled = self._fill(rest)
            state.update(self._buffer[:filled])
        return state.digest()

    def _fill(self, rest: list[tuple[OpenFile, int, int]]) -> int:
        """Read into the buffer what it has room for of `rest`, the next at its end: how much."""
        filled, buffer = 0, self._buffer
        while rest and filled < _CHUNK:
            handle, offset, length = rest.pop()
            count = min(length, _CHUNK - filled)
            if self._files.pread_into(handle, buffer[filled : filled + count], offset) != count:
                raise StorageError(f"{handle.path} became shorter while it was read")
            filled += count
            if count < length:
                rest.append((handle, offset + count, length - count))
        return filled


def _job_size(layout: Layout, indices: Sequence[int] | range, threads: int, most_files: int) -> int:
    """Bytes of a job: several for each thread, and few enough for `most_files` of middling size."""
    share = len(indices) * layout.geometry.piece_length // (threads * _JOBS_EACH)
    middling = layout.geometry.total_length // max(1, len(layout.starts))
    return min(_LARGEST_JOB, max(_SMALLEST_JOB, share), middling * max(1, most_files * 2 // 3))
