"""The files that a node shares, as blocking calls: found, hashed, remembered, deleted.

Invariant: what is hashed is given out only if it did not change meanwhile; the memory of
what was hashed saves time, and nothing fails for want of it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pfs.errors import StorageError
from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.files import Files
from p2pfs.storage.hash_cache import HashCache
from p2pfs.storage.sharing import FolderSource, Item, Scan, Source, describe, is_unchanged

__all__ = ["Hashing", "Shelf"]

log = logging.getLogger(__name__)

Hashing = Callable[[str, int, int], None]
"""Told (name, bytes done, bytes in all), on the thread that hashes."""


class Shelf:
    """What `sources` find, with `cache` as its memory. Safe on any thread."""

    def __init__(
        self, sources: Sequence[Source], cache: HashCache, hashing: Hashing | None = None
    ) -> None:
        self._sources = list(sources)
        self._cache = cache
        self._hashing = hashing
        self._files = Files()
        self._broken_off = threading.Event()

    @property
    def folders(self) -> list[Path]:
        """What to watch for changes."""
        return [source.folder for source in self._sources if source.folder is not None]

    @property
    def all_in_folders(self) -> bool:
        """Whether watching the folders is enough."""
        return len(self.folders) == len(self._sources)

    @property
    def download_folder(self) -> Path | None:
        """Where a download goes; None when nothing here takes any."""
        folders = (one.folder for one in self._sources if isinstance(one, FolderSource))
        return next(folders, None)

    def scan(self) -> Scan:
        """What there is now. Raises `StorageError` when a source cannot be looked at."""
        whole = Scan()
        for source in self._sources:
            found = source.scan(self._files)
            whole.problems.update(found.problems)
            for name, item in found.items.items():
                first = whole.items.setdefault(name, item)
                if first.path != item.path:
                    whole.problems[str(item.path)] = f"{name} is shared from {first.root} already"
        return whole

    def describe(self, item: Item) -> Metainfo | None:
        """The torrent of an item, hashed or remembered; None when it changed meanwhile.

        Raises `StorageError`.
        """
        with contextlib.suppress(StorageError):  # then it is hashed
            known = self._cache.get(item.path, item.signature)
            if known is not None:
                return known

        def hashed(done: int, total: int) -> None:
            if self._broken_off.is_set():
                raise StorageError(f"{item.name} was not hashed to its end")
            if self._hashing is not None:
                self._hashing(item.name, done, total)

        metainfo = describe(item, hashed)
        if not is_unchanged(item, self._files):
            return None
        self.remember(item, metainfo)
        return metainfo

    def break_off(self) -> None:
        """Hashing under way ends soon, with an error, and none begins any more."""
        self._broken_off.set()

    def remember(self, item: Item, metainfo: Metainfo) -> None:
        """Keep what is known of an item; without it a restart takes longer, and that is all."""
        try:
            self._cache.put(item.path, item.signature, metainfo)
        except StorageError as error:
            log.warning("%s", error)

    def forget(self, path: Path) -> None:
        """There is nothing at `path` any more."""
        with contextlib.suppress(StorageError):
            self._cache.forget(path)

    def known(self) -> dict[str, Path]:
        """Info hashes of what was shared from the folders at some time, and where it was."""
        known: dict[str, Path] = {}
        for folder in self.folders:
            with contextlib.suppress(StorageError):
                found = self._cache.known_below(folder)
                known |= {str(metainfo.torrent_id): path for path, metainfo in found.items()}
        return known

    def delete(self, item: Item) -> None:
        """Remove an item's file from the disk. Raises `StorageError`."""
        with self._files.rooted(item.root) as root:
            self._files.unlink(root, item.parts)
        self.forget(item.path)
