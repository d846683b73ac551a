"""Peers that say anything in any order: nothing of them stays, and the torrent completes."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import pytest

from p2pfs.net.engine import Torrent
from p2pfs.swarm.peer import Peer
from tests.support.hostile_peer import Hostile, torment
from tests.support.swarm import KIB, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop"),
    pytest.mark.skipif(sys.platform != "linux", reason="takes many loopback addresses"),
]

MESSAGES = 20_000


def peers_in_memory(torrent: Torrent) -> list[Peer]:
    """Peers of this torrent, those that have left and are still known included."""
    gc.collect()
    geometry = torrent.exchange._geometry
    peers = [one for one in gc.get_objects() if type(one) is Peer]
    return [one for one in peers if one.session.geometry is geometry]


async def test_peers_that_say_anything_leave_no_trace_and_the_torrent_completes(
    swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(tmp_path / "shared", 256 * 32 * KIB - 1, piece_length=32 * KIB)
    honest, _ = await swarm.seed(sample, up_limit=2_000_000)
    client, torrent = await swarm.download(sample)
    hostile = [Hostile(client.port, sample.metainfo, sample.content, seed) for seed in range(1, 4)]

    await asyncio.to_thread(torment, hostile, MESSAGES // 2, 60)
    torrent.add_peers(at(honest))
    await until(lambda: peers_in_memory(torrent))
    await asyncio.to_thread(torment, hostile, MESSAGES // 2, 60)
    [path] = await done(torrent)
    await until(lambda: not torrent.exchange.connections)

    assert sample.is_at(path)
    assert peers_in_memory(torrent) == []
    assert sum(one.closed for one in hostile) > 10
    assert "fault of ours" not in caplog.text
