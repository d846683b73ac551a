"""Open files under a bound, for writers on many threads and for the one thread that serves.

Invariant: a descriptor is never closed while a thread works with it. `HandlePool` counts its
users, `ReadPool` its readers to come; a `Source` is used by one thread only, at once after
asking for its number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files, OpenFile

__all__ = ["HandlePool", "ReadPool", "Source", "SourceCache"]

CHECK_EVERY = 0.05
"""Seconds for which a file that is served is taken to be what it was."""


class HandlePool:
    """At most about `limit` open files, opened by `opened(number)` when first needed."""

    def __init__(self, files: Files, opened: Callable[[int], OpenFile], limit: int) -> None:
        self._files = files
        self._opened = opened
        self._limit = limit
        self._lock = threading.Lock()
        self._handles: dict[int, OpenFile] = {}  # least recently used first
        self._users: dict[int, int] = {}

    def acquire(self, number: int) -> OpenFile:
        """The open file; it stays open until `release`. Raises `StorageError`."""
        with self._lock:
            handle = self._handles.pop(number, None)
            if handle is None:
                self._evict()
                handle = self._opened(number)
            self._handles[number] = handle
            self._users[number] = self._users.get(number, 0) + 1
        return handle

    def release(self, number: int) -> None:
        """Done with the file, for now."""
        with self._lock:
            left = self._users.get(number, 0) - 1
            if left > 0:
                self._users[number] = left
            else:
                self._users.pop(number, None)

    def forget(self, number: int) -> None:
        """Open the file anew the next time, unless it is in use."""
        with self._lock:
            if number not in self._users and number in self._handles:
                self._files.close(self._handles.pop(number))

    def _evict(self) -> None:
        if len(self._handles) < self._limit:
            return
        for number in self._handles:
            if number not in self._users:
                self._files.close(self._handles.pop(number))
                return

    def rest(self) -> None:
        """Close the files that nobody uses now; does not wait for those who do."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            for number in self._handles.keys() - self._users.keys():
                self._files.close(self._handles.pop(number))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close every file; none may be in use."""
        with self._lock:
            while self._handles:
                self._files.close(self._handles.popitem()[1])


class Source:
    """One content file to serve from; `fileno()` opens it when needed."""

    __slots__ = ("_cache", "_check_at", "handle", "number")

    def __init__(self, cache: SourceCache, number: int) -> None:
        self._cache = cache
        self._check_at = 0.0
        self.number = number
        self.handle: OpenFile | None = None

    def fileno(self) -> int:
        """The descriptor, good until the next call of any `fileno()` of this torrent.

        Raises `StorageError` when the file cannot be opened, or changed since it was verified.
        """
        now = time.monotonic()
        if now >= self._check_at:
            self._cache.check(self)
            self._check_at = now + CHECK_EVERY
        if self._cache.newest is self and self.handle is not None:
            return self.handle.fd
        return self._cache.open(self)


class SourceCache:
    """The sources of one torrent: a bounded number is open. For one thread."""

    __slots__ = ("_check", "_files", "_limit", "_open", "_opened", "_sources", "newest")

    def __init__(
        self,
        files: Files,
        opened: Callable[[int], OpenFile],
        limit: int,
        check: Callable[[int, OpenFile], None] = lambda number, handle: None,
    ) -> None:
        self._files = files
        self._check = check
        self._opened = opened
        self._limit = limit
        self._sources: dict[int, Source] = {}
        self._open: dict[int, Source] = {}  # least recently used first
        self.newest: Source | None = None

    def get(self, number: int) -> Source:
        """The source of a file; always the same object."""
        source = self._sources.get(number)
        if source is None:
            source = self._sources[number] = Source(self, number)
        return source

    def check(self, source: Source) -> None:
        """Raises `StorageError` when the file changed; it is opened anew the next time."""
        self.open(source)
        assert source.handle is not None
        try:
            self._check(source.number, source.handle)
        except StorageError:
            self._shut(source)
            raise

    def open(self, source: Source) -> int:
        """Make a source the most recently used and tell its descriptor."""
        handle = source.handle
        if handle is None:
            if len(self._open) >= self._limit:
                self._shut(next(iter(self._open.values())))
            handle = source.handle = self._opened(source.number)
        else:
            del self._open[source.number]
        self._open[source.number] = self.newest = source
        return handle.fd

    def _shut(self, source: Source) -> None:
        del self._open[source.number]
        if source.handle is not None:
            self._files.close(source.handle)
            source.handle = None

    def close(self) -> None:
        """Close all; each source opens anew when asked again."""
        self.newest = None
        for source in list(self._open.values()):
            self._shut(source)


class ReadPool:
    """Files opened once each for a pass over them, and closed after their last reader.

    `users[i]` is how many jobs will read file i; `opened(i)` opens it (or raises
    `StorageError`); `closing(i, handle)` is called before it is closed.
    """

    def __init__(
        self,
        files: Files,
        users: dict[int, int],
        opened: Callable[[int], OpenFile],
        closing: Callable[[int, OpenFile], None] | None = None,
    ) -> None:
        self._files = files
        self._users = users
        self._opened = opened
        self._closing = closing
        self._lock = threading.Lock()
        self._handles: dict[int, OpenFile | StorageError] = {}

    def acquire(self, number: int) -> OpenFile:
        """The open file; raises what opening it raised, to each of its readers."""
        with self._lock:
            handle = self._handles.get(number)
            if handle is None:
                try:
                    handle = self._opened(number)
                except StorageError as error:
                    handle = error
                self._handles[number] = handle
        if isinstance(handle, StorageError):
            raise handle
        return handle

    def release(self, number: int) -> None:
        """One job is done with the file."""
        with self._lock:
            left = self._users[number] = self._users[number] - 1
            if left:
                return
            handle = self._handles.pop(number, None)
        if isinstance(handle, OpenFile):
            try:
                if self._closing is not None:
                    self._closing(number, handle)
            finally:
                self._files.close(handle)

    def close(self) -> None:
        """Close what is still open, after an error."""
        with self._lock:
            for handle in self._handles.values():
                if isinstance(handle, OpenFile):
                    self._files.close(handle)
            self._handles.clear()
