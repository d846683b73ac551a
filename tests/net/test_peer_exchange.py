"""Peers find each other through peers (BEP 11), also by IPv6, and never for private torrents."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats import extension, wire
from p2pfs.formats.extension import UT_PEX, ExtendedHandshake
from p2pfs.formats.ut_pex import WANTS_NOTHING, PexMessage, encode, parse
from p2pfs.geometry import PeerId
from p2pfs.net import exchange
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.storage.creating import make_metainfo
from p2pfs.swarm import pex
from tests.support.sockets import has_ipv6
from tests.support.swarm import KIB, LOCAL, HandMade, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

EXTENDED = b"\0\0\0\0\0\x10\0\0"
OUR_ID = extension.IDS[UT_PEX]
THEIR_ID = 77


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message comes at once."""
    monkeypatch.setattr(pex, "FIRST_AFTER", 0.0)
    monkeypatch.setattr(pex, "LOOK_EVERY", 0.1)


async def met(client: Client, sample: Sample, *, port: int = 6999) -> HandMade:
    """A peer made by hand, through its handshakes, that speaks the extension."""
    peer = await HandMade.dial(client)
    await peer.meet(sample.info_hash, reserved=EXTENDED)
    said = extension.encode(ExtendedHandshake(port=port, messages={UT_PEX: THEIR_ID}))
    await peer.send(wire.encode_extended(0, said))
    return peer


async def heard_by(peer: HandMade) -> PexMessage:
    """The next message of peer exchange that it gets."""
    while True:
        told = await peer.expect(wire.ID_EXTENDED)
        if told.body[0] == THEIR_ID:
            return parse(told.body[1:])


def told(message: PexMessage) -> bytes:
    """A message of peer exchange to one of our clients."""
    return wire.encode_extended(OUR_ID, encode(message))


def known(torrent: Torrent) -> set[tuple[str, int]]:
    """Where the torrent knows of a peer, connected or not."""
    return set(torrent._peers.dialler.book._entries)


async def expect_no_exchange(client: Client, torrent: Torrent, sample: Sample) -> None:
    """Nothing is offered, nothing is told, and nothing that is told has an effect."""
    one, two = await met(client, sample, port=1111), await met(client, sample, port=2222)
    ours = extension.parse((await one.expect(wire.ID_EXTENDED)).body[1:])
    await one.send(told(PexMessage({(LOCAL, 9): 0})), wire.INTERESTED)
    await one.expect(wire.ID_UNCHOKE)
    for _ in range(3):
        torrent.tend()

    assert UT_PEX not in ours.messages
    await until(lambda: known(torrent) == {(LOCAL, 1111), (LOCAL, 2222)})
    sent = [one.reader._buffer, two.reader._buffer]  # type: ignore[attr-defined]
    assert not any(b"added" in data for data in sent)
    for peer in (one, two):
        await peer.close()


async def test_a_downloader_finds_the_seeder_through_another_downloader(
    swarm: Swarm, sample: Sample
) -> None:
    part, _ = await swarm.seed(sample, 0, 1, 2)  # of a part, so that nobody is done and leaves
    one, first = await swarm.download(sample, part)
    await until(lambda: first.progress().pieces_done == 3)

    _, second = await swarm.download(sample, one)

    await until(lambda: len(second.peers()) == 2)
    await until(lambda: {peer.listens_at for peer in second.connected} == set(at(part, one)))


async def test_a_seeder_tells_a_downloader_of_the_seeders_that_it_left(
    swarm: Swarm, sample: Sample
) -> None:
    one, first = await swarm.seed(sample)
    two, second = await swarm.seed(sample)
    first.add_peers(at(two))
    await until(lambda: second.progress().asked and not second.peers())

    peer = await met(one, sample)

    assert (await heard_by(peer)).added.keys() == set(at(two))
    await peer.close()


async def test_a_peer_is_told_whom_we_are_connected_to_and_who_has_left(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pex, "EVERY", 0.2)
    client, torrent = await swarm.seed(sample)
    one, two = await met(client, sample, port=1111), await met(client, sample, port=2222)

    assert (await heard_by(one)).added == {(LOCAL, 2222): 0}
    assert (await heard_by(two)).added == {(LOCAL, 1111): 0}
    await two.close()
    assert await heard_by(one) == PexMessage({}, ((LOCAL, 2222),))
    assert len(torrent.peers()) == 1
    await one.close()


async def test_who_is_heard_of_is_dialled(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample, 0)
    other, _ = await swarm.download(sample)
    peer = await met(client, sample)

    await peer.send(told(PexMessage({("9.9.9.9", 6881): WANTS_NOTHING, at(other)[0]: 0})))

    await until(lambda: len(torrent.peers()) == 2)
    assert known(torrent) == {at(other)[0], (LOCAL, 6999)}  # no seed of a seed
    await peer.close()


@pytest.mark.parametrize("junk", [b"", b"le", b"\xff" * 100, bytes(80_000)])
async def test_what_is_no_message_ends_the_connection(
    swarm: Swarm, sample: Sample, junk: bytes
) -> None:
    client, _ = await swarm.seed(sample)
    peer = await met(client, sample)

    await peer.send(wire.encode_extended(OUR_ID, junk))

    await peer.ended()


async def test_a_flood_of_messages_ends_the_connection(swarm: Swarm, sample: Sample) -> None:
    client, _ = await swarm.seed(sample)
    peer = await met(client, sample)

    await peer.send(*[told(PexMessage())] * 7)

    await peer.ended()


async def test_peer_exchange_can_be_switched_off(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample, peer_exchange=False)

    await expect_no_exchange(client, torrent, sample)


# -- private torrents (BEP 27)


async def private(folder: Path, *trackers: str) -> Sample:
    public = make_sample(folder / "private", 100_000, name="secret.bin")
    metainfo = make_metainfo(
        public.path,
        piece_length=16 * KIB,
        private=True,
        trackers=[[tracker] for tracker in trackers],
    )
    return Sample(metainfo, public.path, public.content)


async def test_nobody_is_told_about_the_peers_of_a_private_torrent(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = await private(tmp_path)
    client, torrent = await swarm.seed(sample)

    await expect_no_exchange(client, torrent, sample)


async def test_peers_of_a_private_torrent_come_from_its_tracker_only(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = await private(tmp_path)
    _, torrent = await swarm.seed(sample)

    torrent.add_peers([(LOCAL, 9)])
    torrent.called_by((LOCAL, 9))

    assert known(torrent) == set()


async def test_a_private_torrent_is_announced_to_its_own_trackers_only(
    swarm: Swarm, tmp_path: Path, tracker_runtime: None
) -> None:
    async with TrackerServer(LOCAL, 0) as own, TrackerServer(LOCAL, 0) as other:
        sample = await private(tmp_path, own.url)
        client = await swarm.client()

        torrent = await client.seed(sample.metainfo, sample.path, trackers=[other.url])

        await until(lambda: own.store.peer_count == 1)
        assert other.store.peer_count == 0
        await torrent.close()
        assert other.store.torrent_count == 0


async def test_a_private_torrent_without_a_tracker_of_its_own_takes_the_one_that_is_named(
    swarm: Swarm, tmp_path: Path, tracker_runtime: None
) -> None:
    sample = await private(tmp_path)
    async with TrackerServer(LOCAL, 0) as tracker:
        for_seed, for_leech = await swarm.client(), await swarm.client()
        await for_seed.seed(sample.metainfo, sample.path, trackers=[tracker.url])
        torrent = await for_leech.download(sample.metainfo, swarm.output(), trackers=[tracker.url])

        (path,) = await done(torrent)

        assert sample.is_at(path)


async def test_when_a_private_torrent_switches_trackers_its_peers_are_left(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker_runtime: None
) -> None:
    monkeypatch.setattr("p2pfs.swarm.announcing.MIN_INTERVAL", 0.1)
    second = await swarm.enter(TrackerServer(LOCAL, 0, interval=1, min_interval=1))
    async with TrackerServer(LOCAL, 0, interval=1, min_interval=1) as first:
        sample = await private(tmp_path, first.url, second.url)
        client = await swarm.client()
        torrent = await client.seed(sample.metainfo, sample.path)
        await until(lambda: first.store.peer_count == 1)
        peer = await met(client, sample)
        await until(lambda: torrent.peers())

    await peer.ended()

    await until(lambda: second.store.peer_count == 1)
    assert known(torrent) == set()


# -- IPv6


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_peers_are_found_by_ipv6(swarm: Swarm, sample: Sample) -> None:
    part, one, two = [await swarm.client(bind="::1") for _ in range(3)]
    await part.seed(sample.metainfo, sample.path, have=sample.pieces(0, 1, 2), verify=False)
    first = await one.download(sample.metainfo, swarm.output())
    first.add_peers([("::1", part.port)])
    await until(lambda: first.progress().pieces_done == 3)

    second = await two.download(sample.metainfo, swarm.output())
    second.add_peers([("::1", one.port)])

    await until(lambda: len(second.peers()) == 2)
    await until(lambda: second.progress().pieces_done == 3)
    both = {("::1", client.port) for client in (part, one)}
    await until(lambda: {peer.listens_at for peer in second.connected} == both)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_a_client_listens_and_dials_by_both_families(swarm: Swarm, sample: Sample) -> None:
    seeder = await swarm.client(bind=None)
    await seeder.seed(sample.metainfo, sample.path, verify=False)
    by_family = []
    for host in (LOCAL, "::1"):
        client = await swarm.client(bind=None)
        torrent = await client.download(sample.metainfo, swarm.output())
        torrent.add_peers([(host, seeder.port)])
        by_family.append(torrent)

    for path in await done(*by_family):
        assert sample.is_at(path)


# -- the same peer at another address


def failed(entry: Any) -> bool:
    return bool(entry.failures)


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)], ids=["the one with less", "the one with more"])
async def test_a_peer_that_is_found_at_another_address_does_not_break_what_runs(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int]
) -> None:
    """As when local discovery tells its IPv6 address to whoever has it from a tracker."""
    monkeypatch.setattr(exchange, "SETTLED", 0.0)
    one, two = [await swarm.client(bind="0.0.0.0") for _ in range(2)]
    _, seed = await swarm.seed(sample, 0, client=one)
    leech = await two.download(sample.metainfo, swarm.output())
    seed.peer_id, leech.peer_id = (PeerId(b"-PF0000-%012d" % number) for number in ids)
    leech.add_peers(at(one))
    await until(lambda: leech.progress().pieces_done == 1)
    (before,) = leech.connected

    for torrent, other in ((leech, one), (seed, two)):
        alias = ("127.0.0.2", other.port)
        torrent.called_by(alias)
        entry = torrent._peers.dialler.book._entries[alias]
        await until(partial(failed, entry))

    assert list(leech.connected) == [before]
    assert len(seed.connected) == 1
