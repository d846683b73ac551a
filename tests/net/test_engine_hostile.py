"""Peers that mean no good: nobody else waits for them, and what they send harms nobody."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from p2pfs.net import connection as connection_module
from p2pfs.net import sending
from p2pfs.net.connections import Connections
from p2pfs.storage.hashing import verify_piece
from tests.support import fake_peer
from tests.support.swarm import KIB, HandMade, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")


async def test_half_handshakes_without_number_do_not_keep_an_honest_peer_out(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, _ = await swarm.seed(sample)
    crowd = [await HandMade.dial(seeder) for _ in range(400)]
    for peer in crowd:
        peer.writer.write(b"\x13BitTorrent proto")

    _, torrent = await swarm.download(sample, seeder)
    [path] = await done(torrent, seconds=5)

    assert sample.is_at(path)
    assert len(seeder._connections.admission) <= 201
    for peer in crowd:
        await peer.close()


async def test_a_peer_that_asks_and_never_reads_gets_bounded_memory_and_nobody_waits_for_it(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 4_000_000)
    seeder, seeded = await swarm.seed(sample)
    rude = await HandMade.dial(seeder, small=True)
    await rude.meet(sample.info_hash)
    await rude.send(fake_peer.message(fake_peer.INTERESTED))
    await rude.expect(fake_peer.UNCHOKE)
    rude.stop_reading()
    every = b"".join(fake_peer.request(piece, 0) for piece in range(sample.count - 1))
    for _ in range(40):
        rude.writer.write(every)

    _, torrent = await swarm.download(sample, seeder)
    [path] = await done(torrent)

    assert sample.is_at(path)
    for connection in seeded.exchange.connections.values():
        assert connection.stream.queued <= sending.MAX_UNREAD + 256 * KIB
    for peer in seeded.exchange.transfer.peers:
        assert len(peer.uploads) <= 2000
    await rude.close()


async def test_a_peer_that_makes_us_talk_and_never_reads_is_left(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every choke takes our requests back, every unchoke has us ask again."""
    monkeypatch.setattr(sending, "MAX_UNREAD", 4 * KIB)
    monkeypatch.setattr(connection_module, "BURDEN_BURST", 1e9)  # which would slow it down
    monkeypatch.setattr(Connections, "welcome", _with_a_small_buffer(Connections.welcome))
    sample = make_sample(tmp_path / "shared", 4_000_000)
    leecher, torrent = await swarm.download(sample)
    rude = await HandMade.dial(leecher, small=True)
    await rude.meet(sample.info_hash)
    await rude.send(fake_peer.everything(sample.count))
    rude.stop_reading()

    async def flip_for_ever() -> None:
        while True:
            for kind in (fake_peer.UNCHOKE, fake_peer.CHOKE):
                rude.writer.write(fake_peer.message(kind))
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    flipping = asyncio.create_task(flip_for_ever())
    await until(lambda: len(leecher._connections.admission) == 0)

    assert torrent.peers() == []
    flipping.cancel()
    await asyncio.gather(flipping, return_exceptions=True)
    await rude.close()


def _with_a_small_buffer(welcome: Any) -> Any:
    def small(connections: Connections, sock: socket.socket, address: tuple[str, int]) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
        welcome(connections, sock, address)

    return small


async def test_random_messages_from_a_peer_in_the_swarm_harm_nobody(
    swarm: Swarm, sample: Sample
) -> None:
    rng = random.Random(5)
    seeder, _ = await swarm.seed(sample, up_limit=400_000)
    leecher, torrent = await swarm.download(sample, seeder)

    def message() -> bytes:
        kind = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 20, rng.randrange(256)])
        size = {4: 4, 5: 3, 6: 12, 7: 8 + 16384, 8: 12}.get(kind, 0)
        body = rng.randbytes(size) if rng.random() < 0.3 else bytes(3) + rng.randbytes(size)[3:]
        return fake_peer.message(kind, body)

    for _ in range(40):
        for client in (seeder, leecher):
            peer = await HandMade.dial(client)
            await peer.meet(sample.info_hash, reserved=bytes((0, 0, 0, 0, 0, 0x10, 0, 0)))
            peer.writer.write(b"".join(message() for _ in range(rng.randrange(1, 30))))
            await asyncio.sleep(0)
            await peer.close()

    [path] = await done(torrent)
    assert sample.is_at(path)


async def test_a_peer_that_sends_wrong_data_is_banned_and_the_content_is_right(
    swarm: Swarm, sample: Sample
) -> None:
    leecher, torrent = await swarm.download(sample)
    liar = await HandMade.dial(leecher)
    await liar.meet(sample.info_hash)
    await liar.send(fake_peer.everything(sample.count), fake_peer.message(fake_peer.UNCHOKE))
    asked = (await liar.expect(fake_peer.REQUEST)).triple
    await liar.send(fake_peer.block(asked[0], asked[1], bytes(asked[2])))
    await liar.ended()
    again = await HandMade.dial(leecher)
    again.peer_id = liar.peer_id
    await again.meet(sample.info_hash)
    await again.ended()

    seeder, _ = await swarm.seed(sample)
    torrent.add_peers(at(seeder))
    [path] = await done(torrent)

    assert sample.is_at(path)
    assert torrent.progress().hash_failures == 1
    assert not verify_piece(bytes(asked[2]), sample.digest(asked[0]))
    await liar.close()
    await again.close()
