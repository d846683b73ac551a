"""SHA-1 over pieces: of one in memory, and of whole trees on all cores (BEP 3).

Invariant: this is the only place where a digest is compared, and memory stays at one small
buffer for each thread however large the content is. Reading and hashing release the
interpreter's lock, so plain threads use all cores.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1

from p2pfs.buffers import page_aligned
from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH
from p2pfs.storage.files import Files, NoSuchFile, OpenFile
from p2pfs.storage.handles import ReadPool
from p2pfs.storage.layout import FileSlice, Layout

__all__ = [
    "Progress",
    "ReadPool",
    "block_digests",
    "hash_pieces",
    "recheck",
    "verify_chunks",
    "verify_piece",
]

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) now and then, on the caller's thread; what it
raises ends the work and reaches the caller."""

_CHUNK = 1024 * 1024
_LARGEST_JOB = 32 * 1024 * 1024
_SMALLEST_JOB = 4 * 1024 * 1024
_JOBS_EACH = 8
"""Jobs of each thread at least, where they are not smaller than the smallest: the threads then
end within an eighth of each other."""
_MOST_OPEN = 256
"""Files that all threads together have open, unless single pieces have more."""
_AHEAD = 16 * 1024 * 1024


def verify_piece(data: Buffer, digest: bytes) -> bool:
    """Whether `data` is the piece with this SHA-1 digest (20 bytes)."""
    return sha1(data, usedforsecurity=False).digest() == digest


def verify_chunks(chunks: Iterable[Buffer], digest: bytes) -> bool:
    """The same for a piece that comes in parts, in order."""
    state = sha1(usedforsecurity=False)
    for chunk in chunks:
        state.update(chunk)
    return state.digest() == digest


def block_digests(data: Buffer, block: int = BLOCK_LENGTH) -> list[bytes]:
    """The SHA-1 of each block of a piece, to find out later whose block was bad."""
    view = memoryview(data)
    return [
        sha1(view[start : start + block], usedforsecurity=False).digest()
        for start in range(0, len(view), block)
    ]


@dataclass(slots=True)
class _Job:
    """Consecutive pieces hashed by one thread in one go."""

    pieces: range
    spans: list[FileSlice]

    @property
    def size(self) -> int:
        return sum(span.length for span in self.spans)

    @property
    def touched(self) -> list[int]:
        """The files it reads, in order."""
        return [span.file_index for span in self.spans]


def _jobs(layout: Layout, indices: Iterable[int], enough: int, most_files: int) -> Iterator[_Job]:
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


def _split(layout: Layout, pieces: range, size: int, most_files: int) -> Iterator[_Job]:
    """The job of `pieces`, of `size` bytes; several when it touches too many files."""
    spans = layout.spans(pieces.start, 0, size)
    if len(spans) > most_files and len(pieces) > 1:
        middle = len(pieces) // 2
        first = middle * layout.geometry.piece_length
        yield from _split(layout, pieces[:middle], first, most_files)
        yield from _split(layout, pieces[middle:], size - first, most_files)
    else:
        yield _Job(pieces, spans)


def default_threads() -> int:
    """How many cores this process may use, at most 32."""
    if hasattr(os, "sched_getaffinity"):
        return min(32, len(os.sched_getaffinity(0)))
    return min(32, os.cpu_count() or 1)


class _Hasher:
    """One thread's work: reads through its own buffer, leaves digests.

    `turn` is held for what is many short calls, as opening and reading small files: side by side,
    threads wait for the interpreter's lock at each of them. One goes on hashing meanwhile.
    """

    def __init__(
        self,
        files: Files,
        layout: Layout,
        pool: ReadPool,
        done: Callable[[int, bytes | None], None],
        turn: threading.Lock,
        stop: threading.Event,
    ) -> None:
        self._files = files
        self._layout = layout
        self._pool = pool
        self._done = done
        self._turn = turn
        self._stop = stop
        self._buffer = page_aligned(_CHUNK)

    def run(self, job: _Job, strict: bool) -> None:
        """Hash a job's pieces; see `hash_pieces` for `strict`."""
        handles: dict[int, OpenFile] = {}
        try:
            if len(job.touched) == 1:
                self._open(job, handles, strict)
                self._ask_ahead(job, handles)
            else:
                with self._turn:
                    self._open(job, handles, strict)
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
                    self._pool.release(number)

    def _open(self, job: _Job, handles: dict[int, OpenFile], strict: bool) -> None:
        for number in job.touched:
            try:
                handles[number] = self._pool.acquire(number)
            except NoSuchFile:
                if strict:
                    raise

    def _ask_ahead(self, job: _Job, handles: dict[int, OpenFile]) -> None:
        """Have what is needed soon read from the disk, where one file goes on for long."""
        for number, offset, _ in job.spans:
            if number not in handles:
                continue
            first = offset if offset < job.size else offset + _AHEAD
            after = offset + _AHEAD + job.size
            self._files.advise(handles[number], first, after - first)

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


def hash_pieces(
    layout: Layout,
    opened: Callable[[int], OpenFile],
    done: Callable[[int, bytes | None], None],
    *,
    files: Files,
    indices: Sequence[int] | range | None = None,
    strict: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
    closing: Callable[[int, OpenFile], None] | None = None,
) -> None:
    """Hash pieces (all, or `indices` ascending) of the files that `opened(i)` opens.

    `done(index, digest)` is called on the hashing threads, for different pieces at once.
    Raises `StorageError` for what cannot be opened or read. If not `strict`, a piece whose
    file is missing, too short or damaged has None for a digest instead; other trouble with
    opening (no permission, no free descriptor) says nothing about content and is raised.
    """
    if indices is None:
        indices = range(layout.geometry.piece_count)
    threads = threads or default_threads()
    most_files = max(1, _MOST_OPEN // threads)
    jobs = list(_jobs(layout, indices, _job_size(layout, indices, threads, most_files), most_files))
    users: dict[int, int] = {}
    for job in jobs:
        for number in job.touched:
            users[number] = users.get(number, 0) + 1
    pool = ReadPool(files, users, opened, closing)
    total, hashed = sum(job.size for job in jobs), 0
    reports: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    waiting = iter(jobs)
    stop = threading.Event()
    turn, reading = threading.Lock(), threading.Lock()

    def work() -> None:
        hasher = _Hasher(files, layout, pool, done, reading, stop)
        try:
            while not stop.is_set():
                with turn:
                    job = next(waiting, None)
                if job is None:
                    return
                hasher.run(job, strict)
                reports.put(job.size)
        except BaseException as error:
            reports.put(error)

    count = max(1, min(threads, len(jobs)))
    workers = [threading.Thread(target=work, name=f"hash-{n}", daemon=True) for n in range(count)]
    try:
        for worker in workers:
            worker.start()
        for _ in jobs:
            report = reports.get()
            if isinstance(report, BaseException):
                raise report
            hashed += report
            if progress is not None:
                progress(hashed, total)
    finally:
        stop.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
        pool.close()


def recheck(
    layout: Layout,
    digests: bytes,
    opened: Callable[[int], OpenFile],
    *,
    files: Files,
    indices: Sequence[int] | range | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Bitfield:
    """Which pieces (of all, or of `indices`) are on the disk as `digests` (20 bytes a piece) say.

    What is missing, short or damaged just does not count; other trouble is a `StorageError`.
    """
    right = Bitfield(layout.geometry.piece_count)
    lock = threading.Lock()

    def judge(index: int, digest: bytes | None) -> None:
        if digest is not None and digest == digests[20 * index : 20 * index + 20]:
            with lock:
                right.add(index)

    hash_pieces(
        layout,
        opened,
        judge,
        files=files,
        indices=indices,
        strict=False,
        threads=threads,
        progress=progress,
    )
    return right
