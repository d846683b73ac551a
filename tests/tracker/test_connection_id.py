"""Ids that prove an address, without anything kept for it."""

from __future__ import annotations

import pytest

from p2pfs.tracker.connection_id import SECRET_LENGTH, ConnectionIds

SECRET = bytes(range(SECRET_LENGTH))
HOST = bytes([10, 0, 0, 1])
HOST6 = bytes(15) + b"\1"


@pytest.mark.parametrize("start", [0.0, 30.0, 59.9, 1_700_000_000.25])
@pytest.mark.parametrize("host", [HOST, HOST6])
def test_an_id_is_good_for_a_minute_and_never_for_more_than_two(start: float, host: bytes) -> None:
    ids = ConnectionIds(SECRET)

    issued = ids.issue(host, start)

    assert len(issued) == 8
    assert ids.is_valid(issued, host, start)
    assert ids.is_valid(issued, host, start + 60)
    assert not ids.is_valid(issued, host, start + 120.001)


def test_an_id_is_good_for_its_address_alone() -> None:
    ids = ConnectionIds(SECRET)

    issued = ids.issue(HOST, 5.0)

    assert not ids.is_valid(issued, bytes([10, 0, 0, 2]), 5.0)
    assert not ids.is_valid(issued, HOST6, 5.0)


def test_an_id_is_good_after_a_restart_with_the_same_secret_and_with_no_other() -> None:
    issued = ConnectionIds(SECRET).issue(HOST, 5.0)

    assert ConnectionIds(SECRET).is_valid(issued, HOST, 6.0)
    assert not ConnectionIds(SECRET[::-1]).is_valid(issued, HOST, 6.0)


def test_an_id_from_the_future_is_not_good() -> None:
    ids = ConnectionIds(SECRET)

    assert not ids.is_valid(ids.issue(HOST, 1000.0), HOST, 100.0)


def test_ids_tell_nothing_about_each_other() -> None:
    ids = ConnectionIds(SECRET)

    issued = {
        ids.issue(bytes([10, 0, 0, n]), 60.0 * minute) for n in range(50) for minute in (0, 1)
    }

    assert len(issued) == 100
    assert len({one[:4] for one in issued}) == 100


@pytest.mark.parametrize("wrong", [bytes(8), b"\xff" * 8, b"", b"short"])
def test_anything_else_is_no_id(wrong: bytes) -> None:
    assert not ConnectionIds(SECRET).is_valid(wrong, HOST, 5.0)
