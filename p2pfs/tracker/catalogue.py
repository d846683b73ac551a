"""What is shared: metainfo files that people published, found again by name.

Invariant: every entry passed `metainfo.parse`, is never changed by a later one, and once
`publish` has returned it survives a crash (SQLite, write-ahead log, full sync). Contents
that differ are both kept though they have one name; then a name alone is not enough.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from p2pfs.errors import CatalogueError
from p2pfs.formats import metainfo
from p2pfs.geometry import TorrentId

__all__ = ["MAX_ENTRIES", "AmbiguousName", "Catalogue", "Entry", "UnknownName"]

MAX_ENTRIES = 100_000

_HASH = re.compile(r"[0-9a-fA-F]{40}")
_SUFFIX = re.compile(r"(?s)(.+)@([0-9a-fA-F]{4,40})")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS torrents (
    info_hash BLOB PRIMARY KEY,
    name      TEXT NOT NULL,
    size      INTEGER NOT NULL,
    published INTEGER NOT NULL,
    metainfo  BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS torrents_by_name ON torrents (name);
"""
_COLUMNS = "SELECT info_hash, name, size, published FROM torrents"
_NEAR_FROM = 20_000
"""Names that a search for near ones looks at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One shared content: `size` in bytes, `published` in seconds since 1970."""

    torrent_id: TorrentId
    name: str
    size: int
    published: int


class UnknownName(CatalogueError):
    """Nothing has this name; `near` lists names that resemble it."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        self.near = tuple(near)
        hint = f"; is it one of: {', '.join(near)}?" if near else ""
        super().__init__(f"nothing called {name!r} is shared here{hint}")


class AmbiguousName(CatalogueError):
    """Several contents have this name; `candidates` lists them, newest first."""

    def __init__(self, name: str, candidates: Sequence[Entry]) -> None:
        self.candidates = tuple(candidates)
        choices = ", ".join(f"{one.name}@{str(one.torrent_id)[:8]}" for one in candidates)
        super().__init__(f"{name!r} means several contents; ask for one of: {choices}")


class Catalogue:
    """The entries in the database at `path`, or in memory without one.

    Safe to use from several threads. Raises `CatalogueError` when the database cannot be
    opened, read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._where = str(path) if path else "memory"
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None, timeout=10
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
            rows = self._database.execute("SELECT info_hash FROM torrents").fetchall()
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CatalogueError(
                f"cannot open the catalogue {self._where}: {reason}; "
                "choose another folder for it, or move what is there away"
            ) from error
        self._known = {bytes(row[0]) for row in rows}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, torrent_id: TorrentId) -> bool:
        return torrent_id.v1 in self._known

    def close(self) -> None:
        """Closes the database; nothing can be asked afterwards."""
        with self._lock:
            self._database.close()

    def publish(self, data: bytes, published: int) -> tuple[Entry, bool]:
        """Keep a metainfo file; the entry, and whether it is new.

        The same content published again changes nothing. Raises `FormatError` when `data`
        is not a metainfo file, `CatalogueError` when it cannot be kept.
        """
        torrent = metainfo.parse(data)
        entry = Entry(torrent.torrent_id, torrent.name, torrent.total_length, published)
        key = torrent.torrent_id.v1
        if key not in self._known:
            if len(self._known) >= MAX_ENTRIES:
                raise CatalogueError(f"the catalogue is full: {MAX_ENTRIES} entries")
            self._query(
                "INSERT OR IGNORE INTO torrents VALUES (?, ?, ?, ?, ?)",
                (key, entry.name, entry.size, published, data),
            )
            self._known.add(key)
            return entry, True
        return self._entries("WHERE info_hash = ?", (key,))[0], False

    def find(self, wanted: str) -> Entry:
        """The entry called `wanted`: a name, NAME@HASH (4 digits or more), or an info hash.

        A name that is there as it stands wins. Raises `UnknownName` or `AmbiguousName`.
        """
        found = self._entries("WHERE name = ? ORDER BY published DESC LIMIT 20", (wanted,))
        if not found and _HASH.fullmatch(wanted):
            found = self._entries("WHERE info_hash = ?", (bytes.fromhex(wanted),))
        pinned = _SUFFIX.fullmatch(wanted)
        if not found and pinned:
            found = self._entries(
                "WHERE name = ? AND hex(info_hash) LIKE ? LIMIT 20",
                (pinned[1], pinned[2].upper() + "%"),
            )
        if not found:
            raise UnknownName(wanted, self._near(pinned[1] if pinned else wanted))
        if len(found) > 1:
            raise AmbiguousName(wanted, found)
        return found[0]

    def metainfo(self, torrent_id: TorrentId) -> bytes:
        """The metainfo file as it was published; raises `UnknownName`."""
        rows = self._query("SELECT metainfo FROM torrents WHERE info_hash = ?", (torrent_id.v1,))
        if not rows:
            raise UnknownName(str(torrent_id), ())
        return bytes(rows[0][0])

    def entries(self, offset: int = 0, limit: int = MAX_ENTRIES) -> list[Entry]:
        """Entries in the order of their names."""
        return self._entries("ORDER BY name, info_hash LIMIT ? OFFSET ?", (limit, offset))

    def _near(self, wanted: str) -> list[str]:
        rows = self._query("SELECT DISTINCT name FROM torrents LIMIT ?", (_NEAR_FROM,))
        by_folded = {str(row[0]).casefold(): str(row[0]) for row in rows}
        folded = wanted.casefold()
        near = get_close_matches(folded, by_folded, n=5, cutoff=0.6)
        near += [name for name in by_folded if folded and folded in name and name not in near]
        return [by_folded[name] for name in near[:5]]

    def _entries(self, tail: str, values: tuple[object, ...]) -> list[Entry]:
        return [
            Entry(TorrentId(bytes(key)), str(name), int(size), int(published))
            for key, name, size, published in self._query(f"{_COLUMNS} {tail}", values)
        ]

    def _query(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise CatalogueError(f"the catalogue {self._where} failed: {error}") from error
