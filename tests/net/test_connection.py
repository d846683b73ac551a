"""Connections of real clients with peers made by hand: handshakes good and bad, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from p2pfs.errors import NetworkError
from p2pfs.net import connection as connection_module
from p2pfs.net.connection import MAX_TALK, Connection
from p2pfs.net.engine import Torrent
from p2pfs.net.exchange import Exchange
from tests.support import fake_peer
from tests.support.disguise import RC4, Caller
from tests.support.sockets import tcp_pair
from tests.support.swarm import LOCAL, HandMade, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[HandMade], Awaitable[None]],
) -> AsyncIterator[tuple[str, int]]:
    """A peer made by hand that others dial."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = HandMade(reader, writer)
        try:
            await serve(peer)
        finally:
            await peer.close()

    server = await asyncio.start_server(accept, LOCAL, 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await server.wait_closed()


def failures(torrent: Torrent, address: tuple[str, int]) -> int:
    entry = torrent._peers.dialler.book._entries.get(address)
    return 0 if entry is None else entry.failures


@both_loops
async def test_an_unknown_info_hash_is_closed_without_a_byte(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    await peer.send(fake_peer.handshake(os.urandom(20), peer.peer_id))

    assert await peer.ended() == b""
    assert torrent.peers() == []
    await peer.close()


@both_loops
@pytest.mark.parametrize(
    "greeting",
    [
        b"\x13BitTorrent protocoX",
        b"\x14",
        bytes(68),
    ],
    ids=["near", "length", "zeros"],
)
async def test_what_is_no_handshake_is_not_answered_and_closed_in_time(
    swarm: Swarm, sample: Sample, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.05)
    client, _ = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    await peer.send(greeting)

    assert await peer.ended() == b""
    await peer.close()


@both_loops
@pytest.mark.parametrize(
    "greeting",
    [
        bytes(96),
        b"\xff" * 3000,
        b"GET /announce HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    ],
    ids=["zeros", "ones", "http", "tls"],
)
async def test_what_cannot_become_a_handshake_is_closed_at_once_without_a_byte(
    swarm: Swarm, sample: Sample, greeting: bytes
) -> None:
    client, _ = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    await peer.send(greeting)

    assert await peer.ended() == b""
    await peer.close()


@both_loops
async def test_a_disguised_handshake_is_answered_in_the_clear(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample)
    peer = await HandMade.dial(client)
    caller = Caller(sample.info_hash, first_padding=os.urandom(100), padding=os.urandom(100))

    await peer.send(caller.hello())
    their_key = await peer.read(96)
    await peer.send(caller.asks(their_key, fake_peer.handshake(sample.info_hash, peer.peer_id)))
    chosen = caller.hears(await peer.read(14))
    answer = await peer.read(68)

    assert chosen == bytes(8) + b"\0\0\0\1" + bytes(2)
    assert answer[:20] == b"\x13BitTorrent protocol"
    assert answer[28:48] == sample.info_hash
    assert await peer.expect(fake_peer.BITFIELD) is not None
    assert [one.direction for one in torrent.peers()] == ["in"]
    await peer.close()


@both_loops
async def test_who_insists_on_rc4_is_served_under_it(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample)
    peer = await HandMade.dial(client)
    caller = Caller(sample.info_hash, offered=RC4)

    async def hear(count: int) -> bytes:
        return caller.hears(await peer.read(count))

    async def say(*data: bytes) -> None:
        await peer.send(caller.says.apply(b"".join(data)))

    await peer.send(caller.hello())
    their_key = await peer.read(96)
    await peer.send(caller.asks(their_key))
    assert await hear(14) == bytes(8) + b"\0\0\0\2" + bytes(2)
    await say(fake_peer.handshake(sample.info_hash, peer.peer_id))
    answer = await hear(68)
    assert answer[28:48] == sample.info_hash
    await say(fake_peer.message(fake_peer.INTERESTED))
    for _ in range(2):  # the bitfield, and that we are unchoked
        length = int.from_bytes(await hear(4), "big")
        await hear(length)
    await say(fake_peer.request(0, 0, 100), fake_peer.request(0, 100, 50))
    told = [await hear(13 + 100), await hear(13 + 50)]

    assert told[0] == fake_peer.block(0, 0, sample.content[:100])
    assert told[1] == fake_peer.block(0, 100, sample.content[100:150])
    assert torrent.progress().uploaded == 150
    await peer.close()


async def test_a_disguised_handshake_for_a_torrent_that_was_closed_is_refused(
    swarm: Swarm, sample: Sample
) -> None:
    client, torrent = await swarm.seed(sample)
    await torrent.close()
    peer = await HandMade.dial(client)
    caller = Caller(sample.info_hash)

    await peer.send(caller.hello())
    their_key = await peer.read(96)
    await peer.send(caller.asks(their_key, fake_peer.handshake(sample.info_hash, peer.peer_id)))

    assert await peer.ended() == b""
    await peer.close()


async def test_garbage_before_a_good_handshake_is_not_looked_through(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.05)
    client, _ = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    await peer.send(b"\r\n", fake_peer.handshake(sample.info_hash, peer.peer_id))

    assert await peer.ended() == b""
    await peer.close()


@both_loops
async def test_a_handshake_that_comes_byte_by_byte_is_answered(
    swarm: Swarm, sample: Sample
) -> None:
    client, torrent = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    for byte in fake_peer.handshake(sample.info_hash, peer.peer_id):
        await peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    answer = await peer.read(68)

    assert answer[:20] == b"\x13BitTorrent protocol"
    assert answer[28:48] == sample.info_hash
    assert await peer.expect(fake_peer.BITFIELD) is not None
    assert [one.direction for one in torrent.peers()] == ["in"]
    await peer.close()


@both_loops
async def test_messages_that_come_with_the_handshake_are_taken(
    swarm: Swarm, sample: Sample
) -> None:
    client, torrent = await swarm.seed(sample)
    peer = await HandMade.dial(client)

    await peer.send(
        fake_peer.handshake(sample.info_hash, peer.peer_id),
        fake_peer.have(3),
        fake_peer.have(5),
        fake_peer.message(fake_peer.INTERESTED),
    )
    await peer.read(68)
    await peer.expect(fake_peer.UNCHOKE)

    [info] = torrent.peers()
    assert (info.pieces, info.peer_interested) == (2, True)
    await peer.close()


@both_loops
@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff\xff\xff\x00",
        fake_peer.message(99, b"what"),
        fake_peer.message(fake_peer.HAVE, bytes(3)),
        fake_peer.have(10**6),
        fake_peer.everything(8),
        fake_peer.message(fake_peer.UNCHOKE) + fake_peer.everything(19),
    ],
    ids=["length", "id", "size", "have", "bitfield", "late bitfield"],
)
async def test_nonsense_after_the_handshake_closes_that_connection_and_no_other(
    swarm: Swarm, sample: Sample, nonsense: bytes
) -> None:
    client, torrent = await swarm.seed(sample)
    good, bad = await HandMade.dial(client), await HandMade.dial(client)
    await good.meet(sample.info_hash)
    await bad.meet(sample.info_hash)

    await bad.send(nonsense)
    await bad.ended()

    await good.send(fake_peer.message(fake_peer.INTERESTED))
    await good.expect(fake_peer.UNCHOKE)
    assert len(torrent.peers()) == 1
    await good.close()
    await bad.close()


async def test_a_peer_that_breaks_the_rules_takes_nobody_elses_requests_along(
    swarm: Swarm, sample: Sample
) -> None:
    """It owes blocks, says that it has pieces, and all that goes with it in one segment."""
    _, torrent = await swarm.download(sample)
    for _ in range(3):
        peer = await HandMade.dial(torrent._client)
        await peer.meet(sample.info_hash)
        await peer.send(fake_peer.everything(sample.count), fake_peer.message(fake_peer.UNCHOKE))
        asked = [(await peer.expect(fake_peer.REQUEST)).triple for _ in range(3)]
        await peer.send(
            *(fake_peer.block(p, b, sample.block(p, b, size)) for p, b, size in asked),
            fake_peer.message(fake_peer.CHOKE),
            fake_peer.have(10**6),
        )
        await peer.ended()
        await peer.close()

    seeder, _ = await swarm.seed(sample)
    torrent.add_peers(at(seeder))

    [path] = await done(torrent)
    assert sample.is_at(path)


@both_loops
@pytest.mark.parametrize("start", [b"", b"\x13BitTorrent pro"], ids=["silent", "half"])
async def test_without_a_handshake_in_time_the_connection_is_closed(
    swarm: Swarm, sample: Sample, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.1)
    client, _ = await swarm.seed(sample)
    peer = await HandMade.dial(client)
    await peer.send(start)

    assert await peer.ended() == b""
    await until(lambda: len(client._connections.admission) == 0)
    await peer.close()


async def test_a_handshake_in_time_stops_the_clock(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.05)
    client, _ = await swarm.seed(sample)
    peer = await HandMade.dial(client)
    await peer.meet(sample.info_hash)
    await asyncio.sleep(0.1)

    await peer.send(fake_peer.message(fake_peer.INTERESTED))

    await peer.expect(fake_peer.UNCHOKE)
    await peer.close()


@both_loops
async def test_a_peer_that_answers_a_dial_for_another_torrent_is_left(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample)

    async def answer(peer: HandMade) -> None:
        await peer.read(68)
        await peer.send(fake_peer.handshake(bytes(20), peer.peer_id))
        await peer.ended()

    async with listening(answer) as address:
        torrent.add_peers([address])
        await until(lambda: failures(torrent, address))

    assert torrent.peers() == []


async def test_a_dial_that_is_not_answered_is_given_up(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.1)
    _, torrent = await swarm.download(sample)

    async with listening(lambda peer: peer.ended()) as address:  # type: ignore[arg-type,return-value]
        torrent.add_peers([address])
        await until(lambda: failures(torrent, address))


async def test_a_dial_to_where_nobody_listens_is_given_up(swarm: Swarm, sample: Sample) -> None:
    _, torrent = await swarm.download(sample)
    gone, far = tcp_pair()
    address = gone.getsockname()
    gone.close()
    far.close()

    torrent.add_peers([address, ("::1", 1), ("no such host", 7), ("300.1.1.1", 7)])

    await until(lambda: failures(torrent, address))
    await until(lambda: failures(torrent, ("no such host", 7)))


@both_loops
async def test_a_client_that_dials_itself_notices_and_does_not_try_again(
    swarm: Swarm, sample: Sample
) -> None:
    client, torrent = await swarm.download(sample)
    address = (LOCAL, client.port)

    torrent.add_peers([address])
    await until(lambda: address in torrent._peers.dialler.book._own)
    torrent.add_peers([address])

    await until(lambda: len(client._connections.admission) == 0)
    assert torrent.peers() == []
    assert len(torrent._peers.dialler.book) == 0


@both_loops
async def test_two_clients_that_dial_each_other_at_once_keep_one_connection(
    swarm: Swarm, sample: Sample
) -> None:
    for _ in range(10):
        first, one = await swarm.download(sample)
        second, two = await swarm.download(sample)
        one.add_peers(at(second))
        two.add_peers(at(first))

        for client in (first, second):
            await until(lambda: len(client._connections.admission) == 1)  # noqa: B023
        await until(lambda: len(one.peers()) == len(two.peers()) == 1)  # noqa: B023
        for torrent, other in ((one, second), (two, first)):
            entry = torrent._peers.dialler.book._entries[LOCAL, other.port]
            await until(lambda: entry.connected)  # noqa: B023 - and is not dialled again
        await first.close()
        await second.close()


async def test_a_third_connection_of_the_same_peer_is_refused(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.seed(sample)
    first, second = await HandMade.dial(client), await HandMade.dial(client)
    second.peer_id = first.peer_id

    await first.meet(sample.info_hash)
    await first.expect(fake_peer.BITFIELD)
    await second.meet(sample.info_hash)
    await second.ended()

    await first.send(fake_peer.message(fake_peer.INTERESTED))
    await first.expect(fake_peer.UNCHOKE)
    assert len(torrent.peers()) == 1
    await first.close()
    await second.close()


async def test_a_fault_of_ours_costs_one_connection_and_is_written_to_the_log(
    swarm: Swarm,
    sample: Sample,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, torrent = await swarm.seed(sample)
    good, bad = await HandMade.dial(client), await HandMade.dial(client)
    await good.meet(sample.info_hash)
    await bad.meet(sample.info_hash)
    await until(lambda: len(torrent.peers()) == 2)
    received = Exchange.received

    def faulty(exchange: Exchange, connection: Connection, data: memoryview) -> None:
        assert connection.peer is not None
        if connection.peer.peer_id == bad.peer_id:
            raise RuntimeError("a mistake")
        received(exchange, connection, data)

    monkeypatch.setattr(Exchange, "received", faulty)
    await bad.send(fake_peer.message(fake_peer.INTERESTED))
    await bad.ended()

    await good.send(fake_peer.message(fake_peer.INTERESTED))
    await good.expect(fake_peer.UNCHOKE)
    assert "a mistake" in caplog.text
    assert len(torrent.peers()) == 1
    await good.close()
    await bad.close()


@both_loops
async def test_a_connection_that_is_closed_before_it_opened_lets_go_of_its_socket(
    swarm: Swarm, sample: Sample
) -> None:
    client, _ = await swarm.seed(sample)
    near, far = tcp_pair()
    connection = Connection(client, (LOCAL, 1), None)

    connection.close("too late")
    connection.resume()

    with pytest.raises(NetworkError, match="too late"):
        await connection.open(near)
    assert near.fileno() == -1
    far.close()


@both_loops
async def test_a_client_closes_while_connections_are_coming_in(
    swarm: Swarm, sample: Sample
) -> None:
    client, _ = await swarm.seed(sample)
    peers = [await HandMade.dial(client) for _ in range(20)]
    for peer in peers[::2]:
        peer.writer.write(fake_peer.handshake(sample.info_hash, peer.peer_id))

    async with asyncio.timeout(5):
        await client.close()
        for peer in peers:
            await peer.ended()
            await peer.close()


async def test_a_peer_whose_messages_cost_much_time_has_to_wait(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "BURDEN_BURST", 0.0)
    monkeypatch.setattr(connection_module, "BURDEN_SHARE", 1e-6)
    client, torrent = await swarm.seed(sample)
    busy, good = await HandMade.dial(client), await HandMade.dial(client)
    await good.meet(sample.info_hash)
    await busy.meet(sample.info_hash)
    await until(lambda: len(torrent.peers()) == 2)

    await busy.send(fake_peer.have(1))
    await until(lambda: any(peer.pieces for peer in torrent.peers()))
    await busy.send(fake_peer.have(2))
    monkeypatch.undo()
    await good.send(fake_peer.message(fake_peer.INTERESTED))
    await good.expect(fake_peer.UNCHOKE)

    assert sorted(peer.pieces for peer in torrent.peers()) == [0, 1]
    await busy.close()
    await good.close()


async def test_what_comes_beside_blocks_costs_time_as_well(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, torrent = await swarm.download(sample)
    busy, good = await HandMade.dial(torrent._client), await HandMade.dial(torrent._client)
    await good.meet(sample.info_hash)
    await busy.meet(sample.info_hash)
    await busy.send(fake_peer.everything(sample.count), fake_peer.message(fake_peer.UNCHOKE))
    piece, begin, length = (await busy.expect(fake_peer.REQUEST)).triple
    monkeypatch.setattr(connection_module, "GIVEN", 0.0)
    monkeypatch.setattr(connection_module, "BURDEN_BURST", 0.0)
    monkeypatch.setattr(connection_module, "BURDEN_SHARE", 1e-6)

    await busy.send(fake_peer.block(piece, begin, sample.block(piece, begin, length)))
    await until(lambda: any(peer.bytes_down for peer in torrent.peers()))
    await busy.send(fake_peer.message(fake_peer.INTERESTED))
    monkeypatch.undo()
    await good.send(fake_peer.message(fake_peer.INTERESTED))
    await until(lambda: any(one.peer_interested and not one.bytes_down for one in torrent.peers()))

    assert not any(one.peer_interested and one.bytes_down for one in torrent.peers())
    await busy.close()
    await good.close()


async def test_much_is_received_at_once_only_while_most_of_it_is_blocks(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 4_000_000)
    _, torrent = await swarm.download(sample)
    peer = await HandMade.dial(torrent._client)
    await peer.meet(sample.info_hash)
    await peer.send(fake_peer.everything(sample.count), fake_peer.message(fake_peer.UNCHOKE))
    asked = [(await peer.expect(fake_peer.REQUEST)).triple for _ in range(8)]
    [connection] = torrent.exchange.connections.values()
    assert connection.receive_allowance() == MAX_TALK

    blocks = [fake_peer.block(p, b, sample.block(p, b, size)) for p, b, size in asked[1:]]
    await peer.send(*blocks)
    await until(lambda: connection.receive_allowance() > MAX_TALK)
    await peer.send(fake_peer.have(1) * (sum(map(len, blocks)) // 9 + 1))
    await until(lambda: connection.receive_allowance() == MAX_TALK)

    assert connection.peer is not None
    assert connection.peer.session.outstanding
    await peer.close()
