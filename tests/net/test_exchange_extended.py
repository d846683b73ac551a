"""Extended messages of one torrent: who hears them, and pieces that are taken back (BEP 54)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from p2pfs.errors import WireError
from p2pfs.formats import extension, wire
from p2pfs.formats.extension import DONT_HAVE, IDS, UT_PEX, ExtendedHandshake
from p2pfs.geometry import BlockRequest
from p2pfs.net.engine import Torrent
from p2pfs.swarm.peer import Peer
from tests.support import fake_peer
from tests.support.swarm import HandMade, Sample, Swarm
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

EXTENDED_ONLY = bytes((0, 0, 0, 0, 0, 0x10, 0, 0))
THEIR_ID = 99
"""By which number our peers want to be told of pieces that we have lost."""
REJECT = 16


@asynccontextmanager
async def guest(
    torrent: Torrent, *said: bytes, reserved: bytes = wire.EXTENSIONS, hears_of_losses: bool = True
) -> AsyncIterator[HandMade]:
    """A peer that has shaken hands, told of itself, and then said this."""
    peer = await HandMade.dial(torrent._client)
    messages = {DONT_HAVE: THEIR_ID} if hears_of_losses else {}
    introduction = extension.encode(ExtendedHandshake(messages=messages))
    try:
        await peer.meet(torrent.exchange.info_hash, reserved=reserved)
        await peer.send(wire.encode_extended(0, introduction), *said)
        yield peer
    finally:
        await peer.close()


async def introduction_to(peer: HandMade) -> ExtendedHandshake:
    """What we say of ourselves to it."""
    return extension.parse((await peer.expect(wire.ID_EXTENDED)).body[1:])


def seen(torrent: Torrent, peer: HandMade) -> Peer:
    """It as our torrent sees it."""
    return next(one for one in torrent.exchange.transfer.peers if one.peer_id == peer.peer_id)


def own_message(name: bytes, payload: bytes) -> bytes:
    """One of ours by the number that we gave it."""
    return wire.encode_extended(IDS[name], payload)


class Listener:
    """Keeps what it hears, or raises `error` at it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[tuple[bytes, bytes]] = []
        self._error = error

    def hear(self, peer: Peer, payload: bytes) -> None:
        self.heard.append((peer.peer_id, payload))
        if self._error is not None:
            raise self._error


# -- who hears what


async def test_what_somebody_listens_for_is_offered_and_heard_as_it_came(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample, peer_exchange=False)
    listener = Listener()
    seeded.exchange.listen(UT_PEX, listener.hear)
    async with guest(seeded, wire.HAVE_NONE) as peer:
        assert (await introduction_to(peer)).messages[UT_PEX] == IDS[UT_PEX]
        await peer.send(own_message(UT_PEX, b"any\0thing"), own_message(UT_PEX, b""))
        await until(lambda: len(listener.heard) == 2)

    assert listener.heard == [(peer.peer_id, b"any\0thing"), (peer.peer_id, b"")]


async def test_whoever_joined_before_is_not_heard_and_what_nobody_hears_does_no_harm(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample, peer_exchange=False)
    listener = Listener()
    async with guest(seeded, wire.HAVE_NONE) as early:
        assert UT_PEX not in (await introduction_to(early)).messages
        seeded.exchange.listen(UT_PEX, listener.hear)
        await early.send(
            own_message(UT_PEX, b"too soon"), wire.encode_extended(200, b"?"), wire.INTERESTED
        )
        await early.expect(fake_peer.UNCHOKE)

    assert listener.heard == []


async def test_an_error_of_a_listener_closes_that_connection_alone(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample, peer_exchange=False)
    listener = Listener(WireError("no such thing"))
    seeded.exchange.listen(UT_PEX, listener.hear)
    async with guest(seeded, wire.HAVE_NONE) as bad, guest(seeded, wire.HAVE_NONE) as good:
        await until(lambda: len(seeded.exchange.connections) == 2)
        await bad.send(own_message(UT_PEX, b""))
        await bad.ended()
        await good.send(wire.INTERESTED)
        await good.expect(fake_peer.UNCHOKE)

    assert [peer_id for peer_id, _ in listener.heard] == [bad.peer_id]


async def test_a_fault_of_a_listener_closes_nothing(
    swarm: Swarm, sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    _, seeded = await swarm.seed(sample, peer_exchange=False)
    seeded.exchange.listen(UT_PEX, Listener(RuntimeError("a mistake")).hear)
    async with guest(seeded, wire.HAVE_NONE) as peer:
        await peer.send(own_message(UT_PEX, b""), wire.INTERESTED)
        await peer.expect(fake_peer.UNCHOKE)

    assert "a mistake" in caplog.text


# -- pieces that we lose


async def test_a_peer_is_told_of_a_lost_piece_by_its_own_number_and_stays(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample)
    async with guest(seeded, wire.HAVE_NONE, wire.INTERESTED) as peer:
        await peer.expect(fake_peer.UNCHOKE)
        seeded.exchange.lost([4])
        told = await peer.expect(wire.ID_EXTENDED)
        assert told.body == bytes((THEIR_ID,)) + struct.pack(">I", 4)

        await peer.send(fake_peer.request(4, 0))
        assert (await peer.expect(REJECT)).triple == (4, 0, 16384)
        await peer.send(fake_peer.request(5, 0))
        assert (await peer.expect(fake_peer.PIECE)).body[8:] == sample.block(5, 0, 16384)

        seeded.exchange.found([4])
        assert (await peer.expect(fake_peer.HAVE)).body == struct.pack(">I", 4)
        await peer.send(fake_peer.request(4, 0))
        assert (await peer.expect(fake_peer.PIECE)).body[8:] == sample.block(4, 0, 16384)


async def test_a_peer_that_cannot_be_told_of_a_lost_piece_comes_back_for_what_is_left(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample)
    async with guest(seeded, wire.HAVE_NONE, hears_of_losses=False) as peer:
        await until(lambda: seeded.exchange.connections)
        await introduction_to(peer)
        seeded.exchange.lost([4])
        await peer.ended()
    async with guest(seeded, hears_of_losses=False, reserved=EXTENDED_ONLY) as peer:
        field = (await peer.expect(fake_peer.BITFIELD)).body

    assert field == (sample.pieces(*range(sample.count)) - sample.pieces(4)).to_bytes()


# -- pieces that a peer loses


@pytest.mark.parametrize("reserved", [wire.EXTENSIONS, EXTENDED_ONLY], ids=["fast", "not fast"])
async def test_a_piece_that_a_peer_has_lost_is_asked_of_another(
    swarm: Swarm, sample: Sample, reserved: bytes
) -> None:
    _, torrent = await swarm.download(sample)
    everything = fake_peer.everything(sample.count)
    async with guest(torrent, everything, wire.UNCHOKE, reserved=reserved) as peer:
        piece, begin, length = (await peer.expect(fake_peer.REQUEST)).triple
        answers = [own_message(DONT_HAVE, struct.pack(">I", piece))]
        if reserved == wire.EXTENSIONS:
            answers.append(wire.encode_rejects([BlockRequest(piece, begin, length)]))
        await peer.send(*answers)
        await until(lambda: not seen(torrent, peer).session.peer_has[piece])
        await until(lambda: (piece, begin, length) not in seen(torrent, peer).session.outstanding)

        seeder, _ = await swarm.seed(sample, piece)
        torrent.add_peers([("127.0.0.1", seeder.port)])
        await until(lambda: torrent.exchange.transfer.have[piece])
        assert not peer.reader.at_eof()


async def test_who_has_lost_all_that_we_need_is_of_no_interest(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample)
    async with guest(torrent, wire.HAVE_NONE, wire.encode_have(2), wire.encode_have(3)) as peer:
        await peer.expect(fake_peer.INTERESTED)
        await peer.send(*(own_message(DONT_HAVE, struct.pack(">I", piece)) for piece in (2, 3)))
        await peer.expect(fake_peer.NOT_INTERESTED)
        await peer.send(wire.encode_have(3))
        await peer.expect(fake_peer.INTERESTED)
