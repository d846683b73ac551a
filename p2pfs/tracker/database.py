"""The database file of the index: SQLite, with many small writes in few commits.

Invariant: once `write` has returned, what its job wrote survives a crash (write-ahead
log, full sync). Jobs run one after the other; one that fails leaves nothing behind and
does not harm those that share its commit.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from p2pfs.errors import CatalogueError

__all__ = ["Database"]

Result = TypeVar("Result")
Row = tuple[Any, ...]


class Database:
    """The database at `path`, or in memory without one; safe to use from several threads.

    `upgrade` brings what an earlier version left up to date, then `schema` makes what is
    not there yet. Raises `CatalogueError` when the database cannot
    be opened, read or written.
    """

    def __init__(
        self,
        path: Path | None,
        schema: str,
        upgrade: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._access = threading.Lock()
        self._turn = threading.Lock()
        """Held by the thread that commits; the others wait with their jobs in `_waiting`."""
        self._queue = threading.Lock()
        self._waiting: list[_Job[Any]] = []
        self._where = str(path) if path else "memory"
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None, timeout=10
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            upgrade(self._connection)
            self._connection.executescript(schema)
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CatalogueError(
                f"cannot open the catalogue {self._where}: {reason}; "
                "choose another folder for it, or move what is there away"
            ) from error

    def close(self) -> None:
        """Closes the database; nothing can be asked afterwards."""
        with self._turn, self._access:
            self._connection.close()

    def read(self, statement: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows of a query."""
        try:
            with self._access:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def script(self, statements: str) -> None:
        """Run statements that make tables or bring them up to date."""
        try:
            with self._access:
                self._connection.executescript(statements)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def write(
        self,
        job: Callable[[sqlite3.Connection], Result],
        committed: Callable[[Result], None] = lambda _: None,
    ) -> Result:
        """What `job` returns, when everything that it wrote is on the disk.

        Jobs that wait at the same time share one commit. `committed` is called after it
        with the result, in the order of the jobs and ahead of any later job.
        """
        ours = _Job(job, committed)
        with self._queue:
            self._waiting.append(ours)
        with self._turn:
            if not ours.done:
                with self._queue:
                    jobs, self._waiting = self._waiting, []
                self._run(jobs)
        return ours.outcome()

    def _run(self, jobs: list[_Job[Any]]) -> None:
        try:
            with self._access:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    for job in jobs:
                        job.run(self._connection)
                    self._connection.execute("COMMIT")
                except sqlite3.Error:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            for job in jobs:
                job.error = self._failed(error)
        for job in jobs:
            job.finish()

    def _failed(self, error: sqlite3.Error) -> CatalogueError:
        return CatalogueError(f"the catalogue {self._where} failed: {error}")


class _Job(Generic[Result]):
    """A write under way; `error` is what came of it instead of a result, and is its caller's."""

    def __init__(
        self, work: Callable[[sqlite3.Connection], Result], committed: Callable[[Result], None]
    ) -> None:
        self._work = work
        self._committed = committed
        self._results: list[Result] = []
        self.error: Exception | None = None
        self.done = False

    def run(self, connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT job")
        try:
            self._results.append(self._work(connection))
        except sqlite3.Error:
            raise
        except Exception as error:
            connection.execute("ROLLBACK TO job")
            self.error = error
        connection.execute("RELEASE job")

    def finish(self) -> None:
        self.done = True
        if self.error is None:
            self._committed(self._results[0])

    def outcome(self) -> Result:
        if self.error is not None:
            raise self.error
        return self._results[0]
