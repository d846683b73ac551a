"""What is shared, by name: exact, below a folder, by pattern, and what resembles a name.

Invariant: entries stand in the order of their names (then of their hashes), and no
question takes longer than one pass over the names; the passes of recent patterns are
remembered until the next change.
"""

from __future__ import annotations

import fnmatch
import re
import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from p2pfs.errors import FormatError
from p2pfs.geometry import TorrentId

__all__ = ["MAX_PATTERN", "Chooser", "Entry", "NameIndex"]

MAX_PATTERN = 1000
_WILDCARD = re.compile(r"[*?\[]")
_REMEMBERED = 4
_NEAR = 5
_PATIENCE = 0.1
_NEAR_FROM = 20_000
"""Names that a search for near ones compares letter by letter."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One shared content: `size` in bytes, `published` in seconds since 1970."""

    torrent_id: TorrentId
    name: str
    size: int
    published: int
    files: int = 1


Chooser = Callable[[Sequence[Entry]], Iterable[Entry]]
"""Chooses some of the entries."""


class NameIndex:
    """Entries by info hash and by name; safe to use from several threads.

    `changes` counts how often the entries changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_hash: dict[bytes, Entry] = {}
        self._sorted: list[Entry] = []
        self._passes: OrderedDict[str, list[Entry]] = OrderedDict()
        self._searching = threading.Lock()
        self.changes = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_hash

    def get(self, key: bytes) -> Entry | None:
        """The entry of an info hash (20 raw bytes)."""
        return self._by_hash.get(key)

    def fill(self, entries: Sequence[Entry]) -> None:
        """Take these entries instead of any others."""
        with self._lock:
            self._by_hash = {one.torrent_id.v1: one for one in entries}
            self._sorted = sorted(entries, key=_order)
            self._changed()

    def add(self, entry: Entry) -> None:
        """Enter an entry; one that is there already stays as it is."""
        with self._lock:
            if entry.torrent_id.v1 not in self._by_hash:
                self._by_hash[entry.torrent_id.v1] = entry
                insort(self._sorted, entry, key=_order)
                self._changed()

    def remove(self, key: bytes) -> None:
        """Take an entry out, if it is there."""
        with self._lock:
            entry = self._by_hash.pop(key, None)
            if entry is not None:
                del self._sorted[bisect_left(self._sorted, _order(entry), key=_order)]
                self._changed()

    def named(self, name: str) -> list[Entry]:
        """The entries called exactly `name`."""
        with self._lock:
            start = bisect_left(self._sorted, (name, b""), key=_order)
            stop = bisect_left(self._sorted, (name, b"\xff" * 21), key=_order)
            return self._sorted[start:stop]

    def below(self, folder: str, limit: int) -> list[Entry]:
        """The first entries whose names begin with `folder` and a slash."""
        with self._lock:
            start = bisect_left(self._sorted, (f"{folder}/", b""), key=_order)
            stop = bisect_left(self._sorted, (f"{folder}0", b""), key=_order)  # "0" follows "/"
            return self._sorted[start : min(stop, start + limit)]

    def matching(self, pattern: str | None) -> Sequence[Entry]:
        """The entries whose names match, in order; all without a pattern.

        A pattern with `*`, `?` or `[...]` is a glob for the whole name; any name also
        matches that contains the pattern as it stands. Case does not count. Raises
        `FormatError` for a pattern of more than `MAX_PATTERN` characters.
        """
        with self._lock:
            if pattern is None:
                return self._sorted.copy()
            found = self._passes.get(pattern)
            if found is not None:
                self._passes.move_to_end(pattern)
                return found
            everything, changes = self._sorted.copy(), self.changes
        matches = _matcher(pattern)
        found = [entry for entry in everything if matches(entry.name)]
        with self._lock:
            if changes == self.changes:
                self._passes[pattern] = found
                while len(self._passes) > _REMEMBERED:
                    self._passes.popitem(last=False)
        return found

    def near(self, wanted: str, preferred: Chooser | None = None) -> list[str]:
        """A few names that resemble `wanted`, the most alike first.

        Of the entries that `preferred` chooses, and of all only when none of those does.
        Nothing while another such search is under way: they take long among very many
        names, and must not take every thread.
        """
        if not self._searching.acquire(timeout=_PATIENCE):
            return []
        try:
            with self._lock:
                everything = self._sorted.copy()
            first = [] if preferred is None else _resembling(wanted, preferred(everything))
            return first or _resembling(wanted, everything)
        finally:
            self._searching.release()

    def _changed(self) -> None:
        self._passes.clear()
        self.changes += 1


def _order(entry: Entry) -> tuple[str, bytes]:
    return entry.name, entry.torrent_id.v1


def _resembling(wanted: str, entries: Iterable[Entry]) -> list[str]:
    folded = wanted.casefold()[:MAX_PATTERN]
    names = {entry.name.casefold(): entry.name for entry in entries}
    alike = get_close_matches(folded, islice(names, _NEAR_FROM), n=_NEAR, cutoff=0.6)
    containing = (name for name in names if folded and folded in name and name not in alike)
    alike += islice(containing, _NEAR - len(alike))
    return [names[name] for name in alike]


def _matcher(pattern: str) -> Callable[[str], bool]:
    if len(pattern) > MAX_PATTERN:
        raise FormatError(f"a pattern has {MAX_PATTERN} characters at most")
    folded = pattern.casefold()
    if not _WILDCARD.search(folded):
        return lambda name: folded in name.casefold()
    glob = re.compile(fnmatch.translate(folded)).match

    def matches(name: str) -> bool:
        name = name.casefold()
        return glob(name) is not None or folded in name

    return matches
