"""Remembers what was hashed, so that a restart need not do it again (SQLite).

Invariant: a torrent is given back only for the very signature (sizes, times, identity)
that its content had when it was hashed. Losing the whole cache costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any

from p2pfs.errors import FormatError, StorageError
from p2pfs.formats.metainfo import Metainfo, parse

__all__ = ["HashCache", "InUse"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashed (
    path      BLOB PRIMARY KEY,
    signature BLOB NOT NULL,
    metainfo  BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class InUse(StorageError):
    """Another process has this cache for itself."""


class HashCache:
    """The cache in the file at `path`, or in memory without one.

    `exclusive` keeps every other process out until `close`, or until this one dies
    (`InUse` when another was first). Safe on any thread. Raises `StorageError`.
    """

    def __init__(self, path: Path | None = None, *, exclusive: bool = False) -> None:
        self._lock = threading.Lock()
        self._path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = self._open(exclusive)
            except sqlite3.DatabaseError as error:
                if path is None or isinstance(error, sqlite3.OperationalError):
                    raise
                for old in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
                    old.unlink(missing_ok=True)
                self._database = self._open(exclusive)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InUse(f"{path} is in use by another program") from error
            raise self._failed(error) from error
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _open(self, exclusive: bool) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path or ":memory:",
            check_same_thread=False,
            isolation_level=None,
            timeout=0 if exclusive else 10,
        )
        try:
            if exclusive:
                database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("BEGIN EXCLUSIVE" if exclusive else "BEGIN")
            for statement in _SCHEMA.split(";")[:-1]:
                database.execute(statement)
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _failed(self, error: Exception) -> StorageError:
        reason = getattr(error, "strerror", None) or error
        return StorageError(f"cannot use {self._path or 'the cache'}: {reason}")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def get(self, path: Path, signature: object) -> Metainfo | None:
        """The torrent of what was at `path` when it had this signature."""
        rows = self._query(
            "SELECT metainfo FROM hashed WHERE path = ? AND signature = ?",
            (os.fsencode(path), _digest(signature)),
        )
        with contextlib.suppress(FormatError):
            return parse(bytes(rows[0][0])) if rows else None
        return None

    def put(self, path: Path, signature: object, metainfo: Metainfo) -> None:
        """Remember a torrent in place of what was known of `path`."""
        self._query(
            "INSERT OR REPLACE INTO hashed VALUES (?, ?, ?)",
            (os.fsencode(path), _digest(signature), metainfo.to_bytes()),
        )

    def forget(self, path: Path) -> None:
        """There is nothing at `path` any more."""
        self._query("DELETE FROM hashed WHERE path = ?", (os.fsencode(path),))

    def known_below(self, folder: Path) -> dict[Path, Metainfo]:
        """What was remembered of `folder` and all below it, signatures aside."""
        top = os.fsencode(folder).rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)
        rows = self._query(
            "SELECT path, metainfo FROM hashed WHERE path >= ? AND path < ? OR path = ?",
            (top, top[:-1] + bytes([top[-1] + 1]), top[:-1]),
        )
        known: dict[Path, Metainfo] = {}
        for path, data in rows:
            with contextlib.suppress(FormatError):
                known[Path(os.fsdecode(bytes(path)))] = parse(bytes(data))
        return known

    def secret(self, name: str) -> str:
        """32 hexadecimal digits that nobody can guess, made once and kept under `name`."""
        self._query("INSERT OR IGNORE INTO kept VALUES (?, ?)", (name, os.urandom(16).hex()))
        return str(self._query("SELECT value FROM kept WHERE name = ?", (name,))[0][0])

    def _query(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error


def _digest(signature: object) -> bytes:
    return blake2b(repr(signature).encode(errors="surrogateescape"), digest_size=16).digest()
