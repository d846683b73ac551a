"""The digests of content that nobody has hashed yet, on all cores.

Invariant: each digest is of bytes read in this call from a file that was the same before and
after. What is large is hashed by child processes where there can be any. Opening and
reading small files is short calls, at each of which threads wait for each other; and a child may
map a file, for what it dies of is done here again, as is all that a child cannot do.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from p2pfs.formats.metainfo import SHA1_LENGTH
from p2pfs.storage.children import Children, can_fork
from p2pfs.storage.files import Files, OpenFile
from p2pfs.storage.handles import ReadPool
from p2pfs.storage.hash_jobs import Job, JobHasher, cut_into_jobs
from p2pfs.storage.hashing import Progress, default_threads, hash_pieces
from p2pfs.storage.layout import Layout

__all__ = ["Digesting"]

T = TypeVar("T")

_MANY: Final = 1000
_LARGE: Final = 128 * 1024 * 1024
"""Files or bytes from which children earn what it takes to start them."""

_TOLD_EVERY: Final = 0.2
"""Seconds after which progress is told again, though there was none."""


class _NoChildren(Exception):
    """The system gives no more processes or descriptors."""


class Digesting:
    """Hashes all of `layout`; `opened(i)` opens file i, `closing(i, handle)` checks it at the end.

    Both may be called on other threads and in child processes.
    """

    def __init__(
        self,
        layout: Layout,
        opened: Callable[[int], OpenFile],
        closing: Callable[[int, OpenFile], None],
        *,
        files: Files,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._layout = layout
        self._opened = opened
        self._closing = closing
        self._files = files
        self._workers = threads or default_threads()
        self._progress = progress
        self._digests = memoryview(b"")

    def run(self, beside: Callable[[], T]) -> tuple[bytes, T]:
        """The digests, 20 bytes a piece, and what `beside` said, which is called here meanwhile.

        Raises `StorageError` for what cannot be opened or read, and what `beside` or `progress`
        raises: that ends the work.
        """
        count = self._layout.geometry.piece_count
        if self._is_worth_children() and can_fork():
            with contextlib.suppress(_NoChildren):
                return self._hash_in_children(range(count), beside)
        said = beside()
        self._digests = memoryview(bytearray(SHA1_LENGTH * count))
        self._hash_here(range(count), self._progress)
        return bytes(self._digests), said

    def _is_worth_children(self) -> bool:
        many = sum(1 for length in self._layout.lengths if length) >= _MANY
        large = self._layout.geometry.total_length >= _LARGE
        return self._workers > 1 and (many or large)

    def _hash_in_children(self, pieces: range, beside: Callable[[], T]) -> tuple[bytes, T]:
        jobs = cut_into_jobs(self._layout, pieces, self._workers)
        self._digests = memoryview(mmap.mmap(-1, SHA1_LENGTH * len(pieces)))
        children = Children(self._workers, len(jobs), lambda: self._child(jobs))
        try:
            try:
                children.start()
            except OSError as error:
                raise _NoChildren from error
            said = beside()
            self._follow(children, jobs)
        finally:
            children.close()
        return bytes(self._digests), said

    def _follow(self, children: Children, jobs: list[Job]) -> None:
        hashed, total = 0, self._layout.geometry.total_length

        def tell(more: int) -> None:
            if self._progress is not None:
                self._progress(hashed + more, total)

        for outcome in children.outcomes(_TOLD_EVERY):
            if outcome is not None:
                number, done = outcome
                if not done:  # the error is met here, if there is one
                    self._hash_here(jobs[number].pieces)
                hashed += jobs[number].size
            tell(0)
        if children.undone:
            left = [index for number in children.undone for index in jobs[number].pieces]
            self._hash_here(left, lambda more, _: tell(more))

    def _child(self, jobs: list[Job]) -> Callable[[int], None]:
        alone, never = threading.Lock(), threading.Event()
        hasher = JobHasher(self._files, self._layout, self._put, alone, never, mapped=True)

        def do(number: int) -> None:
            job = jobs[number]
            pool = ReadPool(self._files, Counter(job.touched), self._opened, self._closing)
            try:
                hasher.run(job, pool, strict=True)
            finally:
                pool.close()

        return do

    def _hash_here(self, pieces: Sequence[int] | range, progress: Progress | None = None) -> None:
        hash_pieces(
            self._layout,
            self._opened,
            self._put,
            files=self._files,
            indices=pieces,
            threads=self._workers,
            progress=progress,
            closing=self._closing,
        )

    def _put(self, index: int, digest: bytes | None) -> None:
        assert digest is not None
        place = SHA1_LENGTH * index
        self._digests[place : place + SHA1_LENGTH] = digest
