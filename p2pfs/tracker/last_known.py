"""What the index knew when it was stopped: counts of swarms and leases, kept across restarts.

Invariant: nothing in here is newer than what peers and nodes say themselves; it only
stands in for those that have not been heard since the restart. `now` is monotonic seconds.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from p2pfs.tracker.database import Database
from p2pfs.tracker.leases import Lease
from p2pfs.tracker.rights import Publisher
from p2pfs.tracker.swarm_table import Counts

__all__ = ["LastKnown", "Saving", "merged"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS swarms (
    info_hash   BLOB PRIMARY KEY,
    complete    INTEGER NOT NULL,
    incomplete  INTEGER NOT NULL,
    downloaded  INTEGER NOT NULL,
    downloaders INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    node_id  TEXT PRIMARY KEY,
    proof    BLOB NOT NULL,
    host     BLOB NOT NULL,
    port     INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    torrents BLOB NOT NULL
);
DELETE FROM swarms WHERE info_hash NOT IN (SELECT info_hash FROM torrents);
"""


@dataclass(slots=True)
class Saving:
    """What is to be written next: counts by info hash, leases by node id (None: gone)."""

    counts: dict[bytes, Counts] = field(default_factory=dict)
    leases: dict[str, Lease | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.leases)


class LastKnown:
    """The counts and leases in the database of a catalogue.

    `unheard` are the counts from before the restart, until what is heard is as much, or
    `expire` is called after `lifetime` seconds. Raises `CatalogueError` like the database.
    """

    def __init__(self, database: Database, lifetime: float, now: float) -> None:
        self._database = database
        self._until = now + lifetime
        database.script(_SCHEMA)
        rows = database.read("SELECT * FROM swarms")
        self.saved = {bytes(key): Counts(*map(int, counts)) for key, *counts in rows}
        """What the database has."""
        self.unheard = {
            key: counts for key, counts in self.saved.items() if counts.complete + counts.incomplete
        }

    def leases(self) -> list[Lease]:
        """The leases that there were."""
        return [
            Lease(
                Publisher(str(node_id), bytes(proof)),
                bytes(host),
                int(port),
                int(since),
                _split(bytes(torrents)),
            )
            for node_id, proof, host, port, since, torrents in self._database.read(
                "SELECT * FROM leases"
            )
        ]

    def expire(self, now: float) -> list[bytes]:
        """Forget counts that nobody confirmed in time; the info hashes concerned."""
        if not self.unheard or now < self._until:
            return []
        gone = list(self.unheard)
        self.unheard.clear()
        return gone

    def save(self, saving: Saving) -> None:
        """Write all this in one commit."""

        def job(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT OR REPLACE INTO swarms VALUES (?, ?, ?, ?, ?)",
                [(key, *counts) for key, counts in saving.counts.items() if any(counts)],
            )
            database.executemany(
                "DELETE FROM swarms WHERE info_hash = ?",
                [(key,) for key, counts in saving.counts.items() if not any(counts)],
            )
            database.executemany(
                "DELETE FROM leases WHERE node_id = ?", [(one,) for one in saving.leases]
            )
            database.executemany(
                "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?)",
                [_row(lease) for lease in saving.leases.values() if lease is not None],
            )

        self._database.write(job)
        self.saved.update(saving.counts)


def merged(heard: Counts, before: Counts) -> Counts:
    """The counts to show while only `heard` has been heard of what there was `before`."""
    total = max(heard.complete + heard.incomplete, before.complete + before.incomplete)
    complete = max(heard.complete, before.complete)
    incomplete = max(heard.incomplete, total - complete)
    partial = max(heard.incomplete - heard.downloaders, before.incomplete - before.downloaders)
    return Counts(complete, incomplete, heard.downloaded, max(incomplete - partial, 0))


def _split(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined[at : at + 20] for at in range(0, len(joined) - 19, 20))


def _row(lease: Lease) -> tuple[object, ...]:
    node = lease.node
    joined = b"".join(lease.torrents)
    return node.node_id, node.proof, lease.host, lease.port, lease.since, joined
