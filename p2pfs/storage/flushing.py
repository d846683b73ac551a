"""What a download has written but not flushed yet, and the checkpoints that flush it.

Invariant: a checkpoint covers exactly the pieces recorded before it began: their files, and
the folders that name these, are flushed first, the checkpoint is entered after. Once a flush
has failed nothing is claimed any more, because the system may have forgotten the data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files, Parts
from p2pfs.storage.handles import HandlePool
from p2pfs.storage.layout import FileSlice
from p2pfs.storage.places import Places
from p2pfs.storage.resume import ResumeRecord

__all__ = ["Flusher"]

_MANY_FILES = 500

_AT_ONCE = 8
"""Of many files: each flush waits for the disk, which takes those at hand together."""


class Flusher:
    """Keeps the record of one download. Methods block, and are safe on any thread."""

    def __init__(
        self, files: Files, places: Places, record: ResumeRecord, pool: HandlePool
    ) -> None:
        self._files = files
        self._places = places
        self._record = record
        self._pool = pool
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._dirty: set[int] = set()
        self._folders: set[Parts] = set()
        self._flushed_to = record.position
        self._error: StorageError | None = None
        self.settled = False
        """Nothing is left to flush, and the record is gone."""
        self.finished = False
        """The content has its real name."""

    def add(self, index: int, spans: Iterable[FileSlice]) -> None:
        """Record a piece that was verified and written."""
        with self._lock:
            self._record.add(index)
            for span in spans:
                self._dirty.add(span.file_index)

    def drop(self, index: int) -> None:
        """Record that a piece is not what it was."""
        with self._lock:
            if not self.settled:
                self._record.drop([index])

    def mark_dirty(self, numbers: Iterable[int]) -> None:
        """These files may have content that was not flushed."""
        with self._lock:
            self._dirty.update(numbers)

    def mark_new(self, parts: Parts) -> None:
        """The names on the way to this file may not have been flushed."""
        with self._lock:
            self._folders.update(parts[:depth] for depth in range(len(parts)))

    def checkpoint(self) -> None:
        """Flush what was written and enter that; see `PieceStore.checkpoint`."""
        with self._running:
            self._check()
            if self.finished:
                return
            with self._lock:
                position = self._record.position
                dirty, self._dirty = self._dirty, set()
                idle = not dirty and not self._folders and position == self._flushed_to
            if idle:
                return
            try:
                stamps = self._flush(dirty)
                with self._lock:
                    folders, self._folders = self._folders, set()
                for folder in folders:
                    self._files.sync_folder(self._places.root, folder)
                with self._lock:
                    self._record.checkpoint(position, stamps)
                    self._flushed_to = self._record.position
                self._record.sync()
            except StorageError as error:
                self._error = error
                raise

    def _check(self) -> None:
        if self._error is not None:
            raise StorageError(
                f"{self._error}; stop, and start again to recheck what is in doubt",
                disk_full=self._error.disk_full,
            )

    def _flush(self, dirty: set[int]) -> dict[int, int]:
        """Flush these files; their modification times (ns) then."""
        numbers = sorted(dirty)
        if len(numbers) <= _MANY_FILES:
            return dict(map(self._flush_file, numbers))
        self._files.sync_all()
        with ThreadPoolExecutor(_AT_ONCE, "flush") as threads:
            return dict(threads.map(self._flush_file, numbers))

    def _flush_file(self, number: int) -> tuple[int, int]:
        handle = self._pool.acquire(number)
        try:
            self._files.sync(handle)
            return number, self._files.fstat(handle).mtime_ns
        finally:
            self._pool.release(number)

    def finish(self, let_go: Callable[[], None]) -> None:
        """Give the content its real name; see `Places.finish`."""
        with self._running:
            self._check()
            self._places.finish(self._record, let_go)
            self.finished = True

    def settle(self) -> None:
        """After `finish`: flush the content and its real name, then remove the record."""
        with self._running:
            if self.settled or not self.finished:
                return
            self._check()
            try:
                self._flush(self._dirty)
                self._places.sync_final(self._folders)
            except StorageError as error:
                self._error = error
                raise
            with self._lock:
                if self._places.all_chosen:
                    self._places.remove_rest()
                self._record.remove()
                self.settled = True

    def close(self) -> None:
        """Let go of the record."""
        self._record.close()
