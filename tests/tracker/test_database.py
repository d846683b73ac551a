"""Writes share commits, survive, and do not harm one another."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pfs.errors import CatalogueError, FormatError
from p2pfs.tracker.database import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY);"


def insert(number: int) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "d.sqlite", SCHEMA)


def numbers(database: Database) -> list[int]:
    return [row[0] for row in database.read("SELECT number FROM numbers ORDER BY number")]


def test_what_a_job_returns_is_returned_after_it_was_committed(
    database: Database, tmp_path: Path
) -> None:
    def job(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO numbers VALUES (5)")
        return "five"

    assert database.write(job) == "five"
    with sqlite3.connect(tmp_path / "d.sqlite") as other:
        assert other.execute("SELECT number FROM numbers").fetchall() == [(5,)]
    other.close()


def test_jobs_that_wait_share_one_commit_in_their_order(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[int] = []

    def slow(connection: sqlite3.Connection) -> int:
        begun.set()
        assert go_on.wait(10)
        return 0

    def job(number: int) -> None:
        def write(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            return connection.total_changes

        database.write(write, lambda _: order.append(number))

    commits: list[str] = []
    database._connection.set_trace_callback(commits.append)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(database.write, slow)
        assert begun.wait(10)
        others = [pool.submit(job, number) for number in range(8)]
        while len(database._waiting) < 8:
            threading.Event().wait(0.001)
        go_on.set()
        for one in (first, *others):
            one.result(10)

    assert commits.count("COMMIT") == 2
    assert numbers(database) == sorted(order) == list(range(8))


def test_a_job_that_refuses_leaves_nothing_and_the_others_go_on(database: Database) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (1)")
        raise FormatError("no")

    told: list[object] = []
    with pytest.raises(FormatError, match="no"):
        database.write(refuse, told.append)
    database.write(insert(2))

    assert (numbers(database), told) == ([2], [])


def test_a_database_that_fails_is_an_error_that_names_it(database: Database) -> None:
    database.write(insert(1))

    with pytest.raises(CatalogueError, match=r"d\.sqlite failed: UNIQUE"):
        database.write(insert(1))
    database.write(insert(2))

    assert numbers(database) == [1, 2]
    with pytest.raises(CatalogueError, match="no such table"):
        database.read("SELECT * FROM missing")
    with pytest.raises(CatalogueError, match="syntax error"):
        database.script("nonsense;")
    database.close()
    with pytest.raises(CatalogueError, match="closed"):
        database.write(insert(3))


def test_many_threads_may_write_at_once(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: database.write(insert(number)), range(200)))

    assert numbers(database) == list(range(200))
