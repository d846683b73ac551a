"""SHA-1 over pieces: of one in memory, and of whole trees on all cores (BEP 3).

Invariant: this is the only place where a digest is compared. Reading and hashing release the
interpreter's lock, so plain threads use all cores.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha1
from typing import Final

from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH
from p2pfs.storage.files import Files, OpenFile
from p2pfs.storage.handles import ReadPool
from p2pfs.storage.hash_jobs import MOST_OPEN, JobHasher, cut_into_jobs
from p2pfs.storage.layout import Layout

__all__ = [
    "Progress",
    "ReadPool",
    "block_digests",
    "default_threads",
    "hash_pieces",
    "recheck",
    "verify_chunks",
    "verify_piece",
]

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) now and then, on the caller's thread; what it
raises ends the work and reaches the caller."""

_MOST_OPEN_TOGETHER: Final = 128
"""Files that all threads together have open, or one each: a process may have 256 here and there."""


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


def default_threads() -> int:
    """How many cores this process may use, at most 32."""
    if hasattr(os, "sched_getaffinity"):
        return min(32, len(os.sched_getaffinity(0)))
    return min(32, os.cpu_count() or 1)


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
    jobs = cut_into_jobs(layout, indices, threads)
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
    most_open = min(MOST_OPEN, max(1, _MOST_OPEN_TOGETHER // threads))

    def work() -> None:
        hasher = JobHasher(files, layout, done, reading, stop, most_open=most_open)
        try:
            while not stop.is_set():
                with turn:
                    job = next(waiting, None)
                if job is None:
                    return
                hasher.run(job, pool, strict)
                reports.put(job.size)
        except BaseException as error:
            reports.put(error)

    count = max(1, min(threads, len(jobs)))
    workers = [threading.Thread(target=work, name=f"hash-{n}", daemon=True) for n in range(count)]
    try:
        for worker in workers:
            try:
                worker.start()
            except RuntimeError:  # the system gives no more
                break
        if workers[0].ident is None:
            work()
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
