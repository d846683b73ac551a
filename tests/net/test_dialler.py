"""Whom a torrent dials, and when it stops to."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable

import pytest

from p2pfs.errors import NetworkError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.net.dialler import HALF_OPEN, MAX_NAMES, WANT_CONNECTED, Dialler
from p2pfs.swarm.peer_book import Address
from tests.support.swarm import Sample, Swarm
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_left")


class Owner:
    """A torrent with as many peers as it is told to have."""

    def __init__(self) -> None:
        self.connected: list[Peer] = []
        self.finished = False
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class Peer:
    def __init__(self, address: Address) -> None:
        self.listens_at = address


class Dials:
    """Takes every dial down; each ends when it is told to."""

    def __init__(self) -> None:
        self.seen: list[Address] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, address: Address) -> None:
        self.seen.append(address)
        await self.end.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
async def made() -> AsyncIterator[Callable[[], tuple[Owner, Dials, Dialler]]]:
    diallers: list[Dialler] = []

    def make() -> tuple[Owner, Dials, Dialler]:
        owner, dials = Owner(), Dials()
        dialler = Dialler(owner, dials, random.Random(1))  # type: ignore[arg-type]
        diallers.append(dialler)
        return owner, dials, dialler

    yield make
    for dialler in diallers:
        await dialler.close()


def hosts(count: int) -> list[Address]:
    return [(f"10.0.{number >> 8}.{number & 255}", 1) for number in range(count)]


async def test_a_bounded_number_of_dials_is_under_way(made) -> None:
    owner, dials, dialler = made()

    dialler.add(hosts(100))
    await until(lambda: dials.seen)

    assert len(dials.seen) == HALF_OPEN
    assert dialler.pause == 0.0
    assert owner.woken
    dials.end.set()

    def all_dialled() -> bool:
        dialler.dial()
        return len(dials.seen) == 100

    await until(all_dialled)
    assert set(dials.seen) == set(hosts(100))


async def test_with_enough_peers_nobody_is_dialled(made) -> None:
    owner, dials, dialler = made()
    owner.connected = [Peer(address) for address in hosts(WANT_CONNECTED)]

    dialler.add([("10.9.9.9", 1)])
    await asyncio.sleep(0)

    assert dials.seen == []
    owner.connected.pop()
    dialler.dial()
    await until(lambda: dials.seen == [("10.9.9.9", 1)])


async def test_who_cannot_be_reached_is_tried_again_later(made) -> None:
    owner, dials, dialler = made()
    dials.error = NetworkError("nobody there")
    dials.end.set()

    dialler.add([("10.0.0.1", 1)])
    await until(lambda: dialler.pause > 0)

    assert 3 < dialler.pause < 7
    assert owner.woken == 2


@pytest.mark.loops("uvloop", "asyncio")
async def test_what_cannot_be_a_name_is_somebody_who_cannot_be_reached(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample)

    torrent.add_peers([("a..b", 1), ("x" * 70 + ".org", 1), ("a\0b", 1)])

    await until(lambda: 3 < torrent._peers.dialler.pause < 7)
    assert len(torrent._peers.dialler.book) == 3


async def test_who_is_connected_another_way_counts_as_connected(made) -> None:
    owner, _, dialler = made()
    dialler.book.heard_of(("10.0.0.1", 1), 0.0)
    dialler.book.connected(("10.0.0.1", 1))
    owner.connected = [Peer(("10.0.0.1", 1))]

    dialler.lost(("10.0.0.1", 1), failed=False)
    assert dialler.pause == math.inf

    owner.connected = []
    dialler.lost(("10.0.0.1", 1), failed=False)
    assert dialler.pause < 7


async def test_a_tracker_can_have_a_few_names_resolved_only(made) -> None:
    _, _, dialler = made()

    dialler.found([PeerAddress(f"n{number}.invalid", 1) for number in range(50)])
    dialler.found([PeerAddress("more.invalid", 1), PeerAddress("10.0.0.1", 1)])
    dialler.found([PeerAddress("::1", 1)])

    assert len(dialler.book) == MAX_NAMES + 2


async def test_after_the_end_nobody_is_dialled(made) -> None:
    _, dials, dialler = made()
    dialler.add([("10.0.0.1", 1)])
    await until(lambda: dials.seen)

    await dialler.close()
    dialler.add([("10.0.0.2", 1)])
    await asyncio.sleep(0)

    assert dials.seen == [("10.0.0.1", 1)]
    assert dialler.pause == 0.0  # somebody is due, whoever dials then
