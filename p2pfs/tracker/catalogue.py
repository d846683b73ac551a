"""What is shared: metainfo files that people published, found again by name.

Invariant: every entry passed `metainfo.parse`, is never changed by a later one, and once
`publish` has returned it survives a crash. Contents that differ are both kept though they
have one name; then a name alone is not enough. Finding and listing never wait for the disk.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from p2pfs.errors import CatalogueError, FormatError
from p2pfs.formats import metainfo
from p2pfs.geometry import TorrentId
from p2pfs.tracker.database import Database
from p2pfs.tracker.name_index import Chooser, Entry, NameIndex
from p2pfs.tracker.rights import ANONYMOUS, NotYours, Publisher, withdrawal

__all__ = [
    "MAX_ENTRIES",
    "AmbiguousName",
    "Catalogue",
    "CatalogueFull",
    "Entry",
    "NotYours",
    "UnknownName",
]

MAX_ENTRIES = 100_000
_MAX_PUBLISHERS = 1000
"""Publishers that one entry remembers."""
_MAX_CANDIDATES = 20
_SHOWN = 300
"""Characters of a name that errors repeat."""
_MAX_BYTES = 8 * 1024**3
_MAX_BYTES_IN_MEMORY = 512 * 1024**2
"""What all metainfo files together may take; everybody may publish."""

_HASH = re.compile(r"[0-9a-fA-F]{40}")
_SUFFIX = re.compile(r"(?s)(.+)@([0-9a-fA-F]{4,40})")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS torrents (
    info_hash BLOB PRIMARY KEY,
    name      TEXT NOT NULL,
    size      INTEGER NOT NULL,
    published INTEGER NOT NULL,
    metainfo  BLOB NOT NULL,
    files     INTEGER NOT NULL
);
DROP INDEX IF EXISTS torrents_by_name;
CREATE TABLE IF NOT EXISTS publishers (
    info_hash BLOB NOT NULL,
    node_id   TEXT NOT NULL,
    proof     BLOB NOT NULL,
    PRIMARY KEY (info_hash, node_id, proof)
) WITHOUT ROWID;
"""


class UnknownName(CatalogueError):
    """Nothing has this name; `near` lists names that resemble it."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        self.near = tuple(near)
        hint = f"; is it one of: {', '.join(near)}?" if near else ""
        super().__init__(f"nothing called {_shown(name)} is shared here{hint}")


class AmbiguousName(CatalogueError):
    """Several contents have this name; `candidates` lists them, newest first."""

    def __init__(self, name: str, candidates: Sequence[Entry]) -> None:
        self.candidates = tuple(candidates)
        choices = ", ".join(f"{one.name}@{str(one.torrent_id)[:8]}" for one in candidates)
        super().__init__(f"'{name[:_SHOWN]}' means several contents; ask for one of: {choices}")


class CatalogueFull(CatalogueError):
    """There are `MAX_ENTRIES` entries already, or they take too much room."""


class Catalogue:
    """The entries in the database at `path`, or in memory without one.

    Safe to use from several threads. Raises `CatalogueError` when the database cannot be
    opened, read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.database = Database(path, _SCHEMA, _upgrade)
        self._room = _MAX_BYTES if path else _MAX_BYTES_IN_MEMORY
        for (taken,) in self.database.read("SELECT TOTAL(LENGTH(metainfo)) FROM torrents"):
            self._room -= int(taken)
        self._index = NameIndex()
        rows = self.database.read("SELECT info_hash, name, size, published, files FROM torrents")
        self._index.fill(
            [
                Entry(TorrentId(bytes(key)), str(name), int(size), int(published), int(files))
                for key, name, size, published, files in rows
            ]
        )

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, torrent_id: TorrentId) -> bool:
        return torrent_id.v1 in self._index

    @property
    def changes(self) -> int:
        """Counts how often the entries changed."""
        return self._index.changes

    def close(self) -> None:
        """Closes the database; nothing can be published or fetched afterwards."""
        self.database.close()

    def publish(
        self, data: bytes, published: int, publisher: Publisher = ANONYMOUS
    ) -> tuple[Entry, bool]:
        """Keep a metainfo file; the entry, and whether it is new.

        The same content published again only adds its publisher. Raises `FormatError`
        when `data` is not a metainfo file, `CatalogueFull` or another `CatalogueError`
        when it cannot be kept.
        """
        torrent = metainfo.parse(data)
        key = torrent.torrent_id.v1
        known = self._index.get(key)
        if known is not None and publisher in self.publishers(torrent.torrent_id):
            return known, False
        entry = Entry(
            torrent.torrent_id,
            torrent.shared_name,
            torrent.total_length,
            published,
            len(torrent.files),
        )

        def keep(database: sqlite3.Connection) -> tuple[Entry, bool]:
            row = database.execute(
                "SELECT published FROM torrents WHERE info_hash = ?", (key,)
            ).fetchone()
            if row is None:
                if len(self._index) >= MAX_ENTRIES:
                    raise CatalogueFull(f"the catalogue is full: {MAX_ENTRIES} entries")
                if len(data) > self._room:
                    raise CatalogueFull("the catalogue is full: its entries take too much room")
                database.execute(
                    "INSERT INTO torrents VALUES (?, ?, ?, ?, ?, ?)",
                    (key, entry.name, entry.size, published, data, entry.files),
                )
            if len(_publishers(database, key)) < _MAX_PUBLISHERS:
                _add_publishers(database, key, (publisher,))
            return (known or entry), row is None

        def enter(result: tuple[Entry, bool]) -> None:
            if result[1]:
                self._room -= len(data)
                self._index.add(entry)

        stored, new = self.database.write(keep, enter)
        return self._index.get(key) or stored, new

    def publishers(self, torrent_id: TorrentId) -> frozenset[Publisher]:
        """Who published this; empty for what is not here."""
        rows = self.database.read(
            "SELECT node_id, proof FROM publishers WHERE info_hash = ?", (torrent_id.v1,)
        )
        return frozenset(Publisher(str(node), bytes(proof)) for node, proof in rows)

    def withdraw(
        self,
        torrent_id: TorrentId,
        asker: Publisher,
        holders: Collection[Publisher] = (),
        *,
        everything: bool = False,
    ) -> Entry:
        """Take an entry out, as far as `rights.withdrawal` lets `asker`; the entry it was.

        `holders` are the nodes that serve it; `everything` says that the asker may withdraw
        whatever there is. Raises `NotYours` when it stays (the asker's own part in it is
        given up then), `UnknownName` when it is not here.
        """
        key = torrent_id.v1
        entry = self._index.get(key)
        if entry is None:
            raise UnknownName(str(torrent_id), ())

        def decide(database: sqlite3.Connection) -> tuple[bool, bool, int]:
            before = _publishers(database, key)
            granted, after = withdrawal(before, frozenset(holders), asker)
            freed = 0
            if granted or everything:
                rows = database.execute(
                    "SELECT LENGTH(metainfo) FROM torrents WHERE info_hash = ?", (key,)
                )
                freed = sum(length for (length,) in rows.fetchall())
                database.execute("DELETE FROM torrents WHERE info_hash = ?", (key,))
                after = frozenset()
            if after != before:
                database.execute("DELETE FROM publishers WHERE info_hash = ?", (key,))
                _add_publishers(database, key, after)
            return granted or everything, asker in before, freed

        def leave(result: tuple[bool, bool, int]) -> None:
            if result[0]:
                self._room += result[2]
                self._index.remove(key)

        granted, had_part, _ = self.database.write(decide, leave)
        if not granted:
            raise NotYours(
                f"'{entry.name}' stays: other nodes share it too; your part in it is withdrawn"
                if had_part
                else f"'{entry.name}' was published by another node, and only that one may "
                "withdraw it"
            )
        return entry

    def get(self, torrent_id: TorrentId) -> Entry | None:
        """The entry of a torrent."""
        return self._index.get(torrent_id.v1)

    def find(self, wanted: str, preferred: Chooser | None = None) -> Entry:
        """The entry called `wanted`: a name, NAME@HASH (4 digits or more), or an info hash.

        A name that is there as it stands wins. A folder's name stands for the one file
        below it, if there is just one. Raises `AmbiguousName`, or `UnknownName` with names
        near to it, rather of the entries that `preferred` chooses.
        """
        found = self._index.named(wanted)
        if not found and _HASH.fullmatch(wanted):
            entry = self._index.get(bytes.fromhex(wanted))
            found = [entry] if entry else []
        pinned = _SUFFIX.fullmatch(wanted)
        if not found and pinned:
            begin = pinned[2].lower()
            candidates = self._index.named(pinned[1]) or self._index.below(pinned[1], MAX_ENTRIES)
            found = [one for one in candidates if str(one.torrent_id).startswith(begin)]
        if not found:
            found = self._index.below(wanted, 2)
            found = found if len(found) == 1 else []
        if not found:
            name = pinned[1] if pinned else wanted
            raise UnknownName(wanted, self._index.near(name, preferred))
        if len(found) > 1:
            found.sort(key=_newest_first)
            raise AmbiguousName(wanted, found[:_MAX_CANDIDATES])
        return found[0]

    def metainfo(self, torrent_id: TorrentId) -> bytes:
        """The metainfo file as it was published; raises `UnknownName`."""
        rows = self.database.read(
            "SELECT metainfo FROM torrents WHERE info_hash = ?", (torrent_id.v1,)
        )
        if not rows:
            raise UnknownName(str(torrent_id), ())
        return bytes(rows[0][0])

    def matching(self, pattern: str | None = None) -> Sequence[Entry]:
        """Entries in the order of their names, as `NameIndex.matching` has it."""
        return self._index.matching(pattern)


def _shown(name: str) -> str:
    """In quotes, as it is as far as it prints."""
    short = name[:_SHOWN]
    return f"'{short}'" if short.isprintable() else ascii(short)


def _newest_first(entry: Entry) -> tuple[int, bytes]:
    return -entry.published, entry.torrent_id.v1


def _publishers(database: sqlite3.Connection, key: bytes) -> frozenset[Publisher]:
    rows = database.execute("SELECT node_id, proof FROM publishers WHERE info_hash = ?", (key,))
    return frozenset(Publisher(str(node), bytes(proof)) for node, proof in rows)


def _add_publishers(
    database: sqlite3.Connection, key: bytes, publishers: Collection[Publisher]
) -> None:
    database.executemany(
        "INSERT OR IGNORE INTO publishers VALUES (?, ?, ?)",
        [(key, one.node_id, one.proof) for one in publishers],
    )


def _upgrade(database: sqlite3.Connection) -> None:
    """Bring a table of an earlier version, which did not count files, up to date."""
    columns = [row[1] for row in database.execute("PRAGMA table_info(torrents)")]
    if not columns or "files" in columns:
        return
    database.execute("BEGIN IMMEDIATE")
    database.execute("ALTER TABLE torrents ADD COLUMN files INTEGER NOT NULL DEFAULT 1")
    for (key,) in database.execute("SELECT info_hash FROM torrents").fetchall():
        row = database.execute("SELECT metainfo FROM torrents WHERE info_hash = ?", (key,))
        with suppress(FormatError):
            torrent = metainfo.parse(bytes(row.fetchone()[0]))
            database.execute(
                "UPDATE torrents SET name = ?, files = ? WHERE info_hash = ?",
                (torrent.shared_name, len(torrent.files), key),
            )
    database.execute("COMMIT")
