"""What was known before a restart, and how it goes together with what is heard after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfs.formats.endpoint import pack_host
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.last_known import LastKnown, Saving, merged
from p2pfs.tracker.leases import Lease
from p2pfs.tracker.peer_store import Counts
from p2pfs.tracker.rights import Publisher
from tests.support.metainfo import described

A, B = described("a"), described("b")


def open_known(path: Path, now: float = 0.0) -> tuple[Catalogue, LastKnown]:
    catalogue = Catalogue(path / "c.sqlite")
    return catalogue, LastKnown(catalogue.database, 660.0, now)


@pytest.mark.parametrize(
    ("heard", "before", "expected"),
    [  # seeds, others, downloads, those of the others who want data
        (Counts(0, 0, 5, 0), Counts(2, 1, 4, 1), Counts(2, 1, 5, 1)),
        (Counts(1, 0, 5, 0), Counts(2, 1, 4, 1), Counts(2, 1, 5, 1)),
        (Counts(0, 2, 5, 2), Counts(2, 1, 4, 1), Counts(2, 2, 5, 2)),
        (Counts(2, 0, 5, 0), Counts(0, 3, 4, 3), Counts(2, 1, 5, 1)),
        (Counts(0, 0, 0, 0), Counts(0, 2, 0, 1), Counts(0, 2, 0, 1)),
        (Counts(0, 1, 0, 1), Counts(0, 2, 0, 0), Counts(0, 2, 0, 0)),
    ],
)
def test_nobody_is_counted_twice_who_was_heard_again(
    heard: Counts, before: Counts, expected: Counts
) -> None:
    assert merged(heard, before) == expected


def test_counts_and_leases_come_back_as_they_were(tmp_path: Path) -> None:
    catalogue, known = open_known(tmp_path)
    catalogue.publish(A.to_bytes(), 1)
    catalogue.publish(B.to_bytes(), 1)
    lease = Lease(
        Publisher("1", b"one"), pack_host("::1"), 5000, 7, frozenset({bytes(20), b"x" * 20})
    )
    counts = {A.torrent_id.v1: Counts(3, 2, 1, 1), B.torrent_id.v1: Counts(0, 0, 9, 0)}
    known.save(Saving(dict(counts), {"1": lease, "2": None}))
    catalogue.close()

    catalogue, known = open_known(tmp_path)
    [restored] = known.leases()

    assert known.saved == counts
    assert known.unheard == {A.torrent_id.v1: counts[A.torrent_id.v1]}
    assert restored == lease
    catalogue.close()


def test_what_is_replaced_or_gone_leaves_no_rows(tmp_path: Path) -> None:
    catalogue, known = open_known(tmp_path)
    catalogue.publish(A.to_bytes(), 1)
    lease = Lease(Publisher("1", b"one"), bytes(4), 5000, 7)
    known.save(Saving({A.torrent_id.v1: Counts(3, 2, 1, 1)}, {"1": lease}))
    lease.port = 6000
    known.save(Saving({}, {"1": lease}))
    assert [one.port for one in known.leases()] == [6000]

    known.save(Saving({A.torrent_id.v1: Counts()}, {"1": None}))

    assert known.leases() == []
    assert catalogue.database.read("SELECT * FROM swarms") == []
    catalogue.close()


def test_counts_are_forgotten_once_when_their_time_is_over(tmp_path: Path) -> None:
    catalogue, known = open_known(tmp_path)
    catalogue.publish(A.to_bytes(), 1)
    known.save(Saving({A.torrent_id.v1: Counts(1, 0, 0, 0)}, {}))
    catalogue.close()
    catalogue, known = open_known(tmp_path, now=10.0)

    assert known.expire(669.0) == []
    assert known.expire(670.0) == [A.torrent_id.v1]
    assert (known.expire(671.0), known.unheard) == ([], {})
    catalogue.close()
