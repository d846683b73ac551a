"""Who may stay while there is no metadata: whoever gives it, before those who only say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from p2pfs.formats import extension, wire
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake
from p2pfs.formats.magnet import Magnet
from p2pfs.net import bare_exchange, dialler
from p2pfs.net.engine import Client
from p2pfs.net.metadata_fetch import MetadataFetch
from p2pfs.swarm import metadata
from tests.support.swarm import HandMade, Sample, Swarm, at
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

EXTENSIONS = bytes((0, 0, 0, 0, 0, 0x10, 0, 4))
PLACES = 4


@pytest.fixture
async def client(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> Client:
    """It has few places for peers."""
    monkeypatch.setattr(bare_exchange, "MAX_PEERS", PLACES)
    monkeypatch.setattr(dialler, "WANT_CONNECTED", PLACES)
    return await swarm.client()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not give at once what it was asked for has failed to."""
    monkeypatch.setattr(bare_exchange, "IDLE_AFTER", 0.0)
    monkeypatch.setattr(metadata, "ANSWER_WITHIN", 0.0)


@pytest.fixture
async def fetch(client: Client, sample: Sample) -> MetadataFetch:
    return client.fetch_metadata(Magnet(sample.metainfo.torrent_id))


@pytest.fixture
async def mute(
    client: Client, fetch: MetadataFetch, nothing_left: None
) -> AsyncIterator[list[HandMade]]:
    """As many as there are places: they offer metadata, and give none."""
    offer = extension.encode(ExtendedHandshake(messages={UT_METADATA: 9}))
    made = [await HandMade.dial(client) for _ in range(PLACES)]
    for hand in made:
        await hand.meet(fetch.info_hash, reserved=EXTENSIONS)
        await hand.send(wire.encode_extended(0, offer), wire.HAVE_ALL)
    yield made
    for hand in made:
        await hand.close()


async def finished(fetch: MetadataFetch) -> bool:
    async with asyncio.timeout(20):
        await fetch.wait()
    return True


async def test_a_newcomer_takes_the_place_of_one_that_offers_metadata_and_gives_none(
    impatient: None, mute: list[HandMade], swarm: Swarm, sample: Sample, fetch: MetadataFetch
) -> None:
    _, seeded = await swarm.seed(sample)
    await until(lambda: fetch.exchange.fetching.sources >= PLACES - 1)

    seeded.add_peers(at(fetch._client))

    assert await finished(fetch)


async def test_when_all_places_are_taken_by_the_mute_others_are_dialled(
    impatient: None, mute: list[HandMade], swarm: Swarm, sample: Sample, fetch: MetadataFetch
) -> None:
    seeder, _ = await swarm.seed(sample)

    fetch.add_peers(at(seeder))

    assert await finished(fetch)


async def test_those_who_come_by_themselves_leave_a_place_for_one_that_is_dialled(
    monkeypatch: pytest.MonkeyPatch, client: Client, swarm: Swarm, sample: Sample
) -> None:
    monkeypatch.setattr(bare_exchange, "MAX_INCOMING", PLACES - 1)
    fetch = client.fetch_metadata(Magnet(sample.metainfo.torrent_id))
    made = [await HandMade.dial(client) for _ in range(PLACES)]
    for hand in made:
        await hand.meet(fetch.info_hash, reserved=EXTENSIONS)
    await until(lambda: len(fetch.connected) == PLACES - 1)
    seeder, _ = await swarm.seed(sample)

    fetch.add_peers(at(seeder))

    assert await finished(fetch)
    for hand in made:
        await hand.close()


async def test_who_has_time_to_answer_yet_stays_however_long_it_was_there(
    monkeypatch: pytest.MonkeyPatch, mute: list[HandMade], fetch: MetadataFetch
) -> None:
    monkeypatch.setattr(bare_exchange, "IDLE_AFTER", 0.0)
    await until(lambda: fetch.exchange.fetching.sources == PLACES)

    late = await HandMade.dial(fetch._client)
    await late.meet(fetch.info_hash, reserved=EXTENSIONS)

    assert await late.ended() == b""
    assert len(fetch.connected) == PLACES
    await late.close()
