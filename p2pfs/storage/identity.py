"""Whether the files of one content are still those that they were, or that were begun.

Invariant: nothing is served from, written to or given its final name that is known to be
another file than the one that was verified or begun here.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfs.errors import StorageError
from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.files import Files, FileStat, NoSuchFile, OpenFile
from p2pfs.storage.places import Places

__all__ = ["Identity"]


class Identity:
    """Of the files at `places`; safe to use from several threads as far as they open others."""

    def __init__(self, metainfo: Metainfo, places: Places, files: Files) -> None:
        self._places = places
        self._files = files
        self._layout = places.layout
        self._sized: set[int] = set()
        self._executable = {n for n, entry in enumerate(metainfo.files) if entry.executable}
        self._owners: dict[int, int] = {}  # inode: number of the file
        self.stats: dict[int, FileStat | None] = {}
        """What the files looked like when they were opened or verified."""

    def remember(self, numbers: Iterable[int]) -> None:
        """Take what these files look like now as right."""
        for number in numbers:
            try:
                self.stats[number] = self._places.stat(number)
            except NoSuchFile:
                self.stats[number] = None

    def is_unchanged(self, number: int, *, finished: bool) -> bool:
        """Whether a file is still the one that was verified: size, time and identity.

        Of one in the making (not `finished`), whose time we change ourselves: size and identity.
        """
        if number == self._layout.zeros:
            return True
        try:
            now = self._places.stat(number)
        except StorageError:
            return False
        then = self.stats.get(number)
        if finished:
            return then is not None and now == then
        return self._is_ours(number, now)

    def _is_ours(self, number: int, now: FileStat | None) -> bool:
        """Whether a file in the making is the one that was begun, and has its size."""
        if now is None or not now.is_file or now.size != self._layout.size_of(number):
            return False
        then = self.stats.get(number)
        return then is None or now.inode == then.inode

    def check_served(self, number: int, handle: OpenFile) -> None:
        """Raises `StorageError` when an open file is not what was verified, as far as is known."""
        then = self.stats.get(number)
        if then is None:
            return
        now = self._files.fstat(handle)
        if (now.size, now.mtime_ns) != (then.size, then.mtime_ns):
            raise StorageError(f"{handle.path} changed since it was verified")

    def begin(self, number: int, handle: OpenFile) -> bool:
        """Make a file that was opened for writing ready for that; whether for the first time.

        Raises `StorageError` when it is not the one that was begun.
        """
        self._check_own(number, handle)
        known = self.stats.get(number)
        if known is not None and known.inode != handle.found.inode:
            raise self._not_ours(number)
        size, first = self._layout.size_of(number), number not in self._sized
        if handle.found.size != size:
            if not first:
                raise self._not_ours(number)
            self._files.truncate(handle, size)
        if first:
            if number in self._executable:
                self._files.allow_execution(handle)
            self._sized.add(number)
            self.stats[number] = handle.found
        return first

    def check_in_place(self) -> None:
        """Nothing but what was written here may get the name of the content.

        Raises `StorageError` when something else lies there.
        """
        self._places.look_afresh()
        for number in (*self._places.fetched, *self._places.standing):
            if self._places.has_moved(number) and number not in self._places.standing:
                continue
            try:
                found = self._places.stat(number)
            except NoSuchFile:  # a link on the way
                found = None
            changed = number in self._places.standing and found != self.stats.get(number)
            if changed or not self._is_ours(number, found):
                raise self._not_ours(number)

    def _check_own(self, number: int, handle: OpenFile) -> None:
        """Where case does not count, or by a planted link, two names may be one file."""
        owner = self._owners.setdefault(handle.found.inode or -1 - number, number)
        if owner != number:
            other = self._places.root.full(self._places.parts(owner))
            raise StorageError(
                f"{handle.path} and {other} are one file on this disk: choose another output folder"
            )

    def _not_ours(self, number: int) -> StorageError:
        path = self._places.root.full(self._places.parts(number))
        return StorageError(
            f"{path} was changed or removed by another program: stop, and start again to recheck it"
        )
