"""What one torrent answers to peers made by hand, and what it tells them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import NetworkError
from p2pfs.formats import bencode
from p2pfs.net import exchange as exchange_module
from p2pfs.net import sending
from p2pfs.net.connection import Connection
from p2pfs.net.engine import Torrent
from p2pfs.net.exchange import settle_duplicate
from p2pfs.net.sending import Sender
from p2pfs.swarm.effects import Completed
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.session import Session
from tests.support import fake_peer
from tests.support.swarm import KIB, LOCAL, HandMade, Sample, Swarm, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

EXTENSIONS = bytes((0, 0, 0, 0, 0, 0x10, 0, 0))
EXTENDED = 20


def introduction(**values: Any) -> bytes:
    """An extended handshake (BEP 10)."""
    payload = bencode.encode({key.encode(): value for key, value in values.items()})
    return fake_peer.message(EXTENDED, b"\0" + payload)


@asynccontextmanager
async def guest(
    torrent: Torrent, *, served: bool = True, reserved: bytes = bytes(8)
) -> AsyncIterator[HandMade]:
    """A peer that has shaken hands and, if `served`, was unchoked."""
    peer = await HandMade.dial(torrent._client)
    try:
        assert len(await peer.meet(torrent.exchange.info_hash, reserved=reserved)) == 68
        if served:
            await peer.send(fake_peer.message(fake_peer.INTERESTED))
            await peer.expect(fake_peer.UNCHOKE)
        yield peer
    finally:
        await peer.close()


async def ask(peer: HandMade, piece: int, begin: int = 0, length: int = 16 * KIB) -> bytes:
    """The data of one block, asked for and answered."""
    await peer.send(fake_peer.request(piece, begin, length))
    told = await peer.expect(fake_peer.PIECE)
    assert struct.unpack(">II", told.body[:8]) == (piece, begin)
    return told.body[8:]


# -- serving


async def test_the_bitfield_is_the_first_message_and_says_what_is_there(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample, 0, 9, 18)
    async with guest(seeded, served=False) as peer:
        told = await peer.take()

    assert told is not None
    assert told.kind == fake_peer.BITFIELD
    assert told.body == sample.pieces(0, 9, 18).to_bytes()


async def test_who_has_nothing_sends_no_bitfield(swarm: Swarm, sample: Sample) -> None:
    _, torrent = await swarm.download(sample)
    async with guest(torrent) as peer:  # an unchoke was the first that came
        await peer.send(fake_peer.have(3))
        told = await peer.take()

    assert told is not None
    assert told.kind == fake_peer.INTERESTED


async def test_blocks_are_answered_as_they_were_asked_for(swarm: Swarm, sample: Sample) -> None:
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as peer:
        for piece, begin, length in [(0, 0, 16384), (7, 5, 1), (7, 16383, 1), (18, 0, 5088)]:
            assert await ask(peer, piece, begin, length) == sample.block(piece, begin, length)

    assert seeded.progress().uploaded == 16384 + 2 + 5088


async def test_a_block_that_lies_in_several_files_is_answered_whole(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", {f"{n:02}": 1000 + n for n in range(40)}, name="tree")
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as peer:
        assert await ask(peer, 1) == sample.block(1, 0, 16384)


@pytest.mark.parametrize(
    "reserved",
    [bytes((0,) * 7 + (0x10,)), bytes((0,) * 7 + (0x01,)), bytes((0xFF,) * 8)],
    ids=["a v2 torrent", "DHT", "everything"],
)
async def test_reserved_bits_of_what_is_not_spoken_change_nothing(
    swarm: Swarm, sample: Sample, reserved: bytes
) -> None:
    _, seeded = await swarm.seed(sample)
    async with guest(seeded, served=False, reserved=reserved) as peer:
        await peer.send(
            fake_peer.message(fake_peer.BITFIELD, bytes(3)), fake_peer.message(fake_peer.INTERESTED)
        )
        await peer.expect(fake_peer.UNCHOKE)
        assert await ask(peer, 7) == sample.block(7, 0, 16384)


async def test_a_request_for_what_is_not_there_gets_no_answer_and_does_no_harm(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample, 0, 1)
    async with guest(seeded) as peer:
        await peer.send(
            fake_peer.request(5, 0),
            fake_peer.request(99, 0),
            fake_peer.request(0, 16384),
            fake_peer.request(0, 1),
            fake_peer.request(0, 0, 0),
            fake_peer.request(0, 0, 2**31),
        )
        assert await ask(peer, 1) == sample.block(1, 0, 16384)


async def test_a_choked_peer_gets_no_answer(swarm: Swarm, sample: Sample) -> None:
    _, torrent = await swarm.download(sample, output=sample.path.parent)
    torrent.exchange.transfer.serving._slots = 0
    async with guest(torrent, served=False) as peer, guest(torrent, served=False) as other:
        session = next(
            one.session for one in torrent.exchange.transfer.peers if one.peer_id == peer.peer_id
        )
        session.choke()
        await peer.send(fake_peer.request(0, 0), fake_peer.have(2))
        await until(lambda: session.peer_has.count)
        await other.expect(fake_peer.BITFIELD)

    assert torrent.progress().uploaded == 0


async def test_a_cancelled_request_is_not_answered(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SEND_AHEAD", 1)  # one block at a time
    _, seeded = await swarm.seed(sample, up_limit=100_000)
    async with guest(seeded) as peer:
        asked = [fake_peer.request(piece, 0) for piece in range(6)]
        body = asked[5][5:]
        await peer.send(*asked, fake_peer.message(fake_peer.CANCEL, body))
        pieces = [(await peer.expect(fake_peer.PIECE)).body[3] for _ in range(5)]
        assert await ask(peer, 6) == sample.block(6, 0, 16384)

    assert sorted(pieces) == [0, 1, 2, 3, 4]


async def test_longer_requests_are_answered_only_where_that_was_agreed(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 600_000, piece_length=256 * KIB)
    _, seeded = await swarm.seed(sample)
    async with guest(seeded, reserved=EXTENSIONS) as peer, guest(seeded) as plain:
        await peer.send(introduction(pf_run=4 * 16384, v=b"made by hand"))
        assert await ask(peer, 1, 0, 4 * 16384) == sample.block(1, 0, 4 * 16384)
        await plain.send(fake_peer.request(0, 0, 2 * 16384))
        assert await ask(plain, 0, 0, 16384) == sample.block(0, 0, 16384)
        assert "made by hand" in {one.client for one in seeded.peers()}


async def test_every_peer_is_told_of_a_piece_that_is_new(swarm: Swarm, sample: Sample) -> None:
    _, torrent = await swarm.download(sample)
    async with (
        guest(torrent, served=False) as giver,
        guest(torrent, served=False) as one,
        guest(torrent, served=False) as other,
    ):
        await until(lambda: len(torrent.peers()) == 3)
        await giver.send(fake_peer.have(4), fake_peer.message(fake_peer.UNCHOKE))
        piece, begin, length = (await giver.expect(fake_peer.REQUEST)).triple
        await giver.send(fake_peer.block(piece, begin, sample.block(piece, begin, length)))
        told = [await peer.expect(fake_peer.HAVE) for peer in (giver, one, other)]

    assert {have.body for have in told} == {struct.pack(">I", 4)}
    assert torrent.progress().pieces_done == 1


async def test_there_is_an_end_to_the_peers_of_a_torrent(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_PEERS", 2)
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as one, guest(seeded) as two:
        third = await HandMade.dial(seeded._client)
        await third.meet(sample.info_hash)
        await third.ended()
        assert await ask(one, 1) == sample.block(1, 0, 16384)
        await third.close()
        await two.close()
        await until(lambda: len(seeded.peers()) == 1)
        async with guest(seeded) as fourth:
            assert await ask(fourth, 2) == sample.block(2, 0, 16384)


async def test_who_never_exchanged_anything_makes_way_for_a_newcomer(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_PEERS", 2)
    monkeypatch.setattr(exchange_module, "IDLE_AFTER", 0.0)
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as useful, guest(seeded) as idle:
        await ask(useful, 1)
        async with guest(seeded) as newcomer:
            await idle.ended()
            assert await ask(newcomer, 2) == sample.block(2, 0, 16384)
            assert await ask(useful, 3) == sample.block(3, 0, 16384)


async def test_a_new_connection_replaces_one_that_has_been_silent(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "PRESUMED_DEAD", 0.0)
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as old:
        again = await HandMade.dial(seeded._client)
        again.peer_id = old.peer_id
        await again.meet(sample.info_hash)
        await again.send(fake_peer.message(fake_peer.INTERESTED))
        await again.expect(fake_peer.UNCHOKE)

        assert await ask(again, 3) == sample.block(3, 0, 16384)
        await old.ended()
        assert len(seeded.peers()) == 1
        await again.close()


# -- faults stay where they are


async def test_a_fault_while_sending_to_one_peer_does_not_stop_the_others(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, seeded = await swarm.seed(sample)
    async with guest(seeded) as bad, guest(seeded) as good:
        send = Sender._send

        def faulty(sender: Sender, peer: Any, connection: Any) -> None:
            if peer.peer_id == bad.peer_id:
                raise RuntimeError("a mistake")
            send(sender, peer, connection)

        monkeypatch.setattr(Sender, "_send", faulty)
        await bad.send(fake_peer.request(0, 0))
        await bad.ended()

        assert await ask(good, 1) == sample.block(1, 0, 16384)
    assert "a mistake" in caplog.text


async def test_a_fault_in_one_effect_does_not_lose_the_next(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, torrent = await swarm.download(sample)
    exchange = torrent.exchange
    carry_out, seen = exchange._carry_out, []

    def faulty(effect: Any) -> None:
        seen.append(effect)
        if len(seen) == 1:
            raise RuntimeError("a mistake")
        carry_out(effect)

    monkeypatch.setattr(exchange, "_carry_out", faulty)
    exchange.transfer.leeching.effects += [Completed(), Completed()]
    exchange.tick()

    assert len(seen) == 2
    assert "a mistake" in caplog.text


# -- many at once


async def test_a_seeder_closes_in_the_middle_of_serving(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample)
    async with guest(seeded) as peer:
        await peer.send(*(fake_peer.request(piece, 0) for piece in range(18)))
        async with asyncio.timeout(5):
            await seeder.close()
        await peer.ended()


async def test_a_download_ends_as_soon_as_its_last_piece_is_there(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample)
    async with guest(torrent, served=False, reserved=EXTENSIONS) as giver:
        await giver.send(
            introduction(pf_run=16384, reqq=500),
            fake_peer.message(fake_peer.UNCHOKE),
            *(fake_peer.have(piece) for piece in range(sample.count)),
        )
        for _ in range(sample.count):
            piece, begin, length = (await giver.expect(fake_peer.REQUEST)).triple
            await giver.send(fake_peer.block(piece, begin, sample.block(piece, begin, length)))

        [path] = await done(torrent)

    assert sample.is_at(path)
    assert torrent.progress().wasted == 0


# -- the same peer twice


@pytest.mark.parametrize("ours_wins", [False, True])
async def test_of_three_connections_of_a_peer_made_at_once_one_stays(
    swarm: Swarm, sample: Sample, ours_wins: bool
) -> None:
    """As when it is dialled while it dials by IPv4 and IPv6; what is closed is there a while."""
    client, torrent = await swarm.download(sample)
    own_id, peer_id = (b"B" * 20, b"A" * 20) if ours_wins else (b"A" * 20, b"B" * 20)
    connections: dict[Peer, Connection] = {}

    def join(*, outgoing: bool) -> Connection:
        address = (LOCAL, 1)
        dialled = torrent.exchange if outgoing else None
        connection = Connection(client._connections, address, dialled)
        settle_duplicate(connections, own_id, connection, peer_id, 0.0)
        session = Session(sample.metainfo.geometry, 0.0)
        connections[Peer(session, address, peer_id, 0.0, outgoing=outgoing)] = connection
        return connection

    loser = join(outgoing=not ours_wins)
    winner = join(outgoing=ours_wins)
    with pytest.raises(NetworkError, match="already"):
        join(outgoing=ours_wins)

    assert loser.closing
    assert not winner.closing
