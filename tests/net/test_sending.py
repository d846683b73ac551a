"""Whose turn it is when only so much may be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfs.formats import extension, ut_metadata, wire
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake
from p2pfs.net.engine import MIN_RATE
from tests.support import fake_peer
from tests.support.swarm import KIB, HandMade, Swarm, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

EXTENSIONS = bytes((0, 0, 0, 0, 0, 0x10, 0, 4))


async def test_metadata_takes_turns_with_blocks_as_many_bytes_each(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 10_000_000, piece_length=KIB)
    pieces = ut_metadata.pieces_of(len(sample.metainfo.info_bytes)).piece_count
    client = await swarm.client(up_limit=MIN_RATE)  # so little that one turn takes very long
    _, torrent = await swarm.seed(sample, client=client)
    exchange = torrent.exchange
    asker, leecher = await HandMade.dial(client), await HandMade.dial(client)
    for hand in (asker, leecher):
        await hand.meet(sample.info_hash, reserved=EXTENSIONS)
    introduction = extension.encode(ExtendedHandshake(messages={UT_METADATA: 9}))
    await asker.send(wire.encode_extended(0, introduction), wire.HAVE_NONE)
    await asker.expect(wire.ID_EXTENDED)
    to_us = int(exchange._introduction.messages[UT_METADATA])
    for piece in range(pieces):
        request = ut_metadata.encode_request(piece)
        await asker.send(wire.encode_extended(to_us, request))
    await until(lambda: exchange._metadata.waiting)
    await leecher.send(wire.HAVE_NONE, fake_peer.message(fake_peer.INTERESTED))
    await leecher.expect(fake_peer.UNCHOKE)
    await leecher.send(*(fake_peer.request(piece, 0, KIB) for piece in range(60)))
    (peer,) = (one for one in exchange.connections if one.peer_id == leecher.peer_id)
    await until(lambda: len(peer.uploads) == 60)
    await until(lambda: all(exchange._readahead.ready(piece) for piece in range(60)))

    turns = [exchange.serve_one() for _ in range(3 * (16 + 1))]

    assert turns.count(KIB) == 3 * 16
    assert turns.count(ut_metadata.PIECE_LENGTH) == 3
    await asker.close()
    await leecher.close()
