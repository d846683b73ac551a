"""Case 23: a UDP tracker among those who lie about who they are, shout, and invent peers."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import NetworkError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.udp_announcer import UdpAnnouncer
from tests.e2e.processes import Lab, Running, no_traceback, until
from tests.support import udp_flood
from tests.support.datagrams import Asker

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="takes many loopback addresses"),
]

NAME = "content.bin"
SIZE = 2 << 20
MEMORY = 640 << 20
"""Bytes that a tracker may have at most, whatever is invented."""
LONG = 900.0
TID = b"case"


def flood(lab: Lab, *words: str) -> Running:
    return lab.start(
        sys.executable, udp_flood.__file__, str(lab.tracker_port), *words,
        PYTHONPATH=str(Path(__file__).parents[2]),
    )  # fmt: skip


def outcome(flooding: Running) -> dict[str, Any]:
    """What a flood that is over says about itself."""
    found: dict[str, Any] = json.loads(flooding.lines[0])
    return found


def honest_torrent(lab: Lab) -> str:
    """A torrent with a seeder that meets others over UDP alone."""
    lab.content(NAME, SIZE)
    url = f"udp://127.0.0.1:{lab.tracker_port}/announce"
    made = lab.run("make-torrent", f"seeds/{NAME}", "-o", "t.torrent", "-t", url, "-l", "64KiB")
    assert made.wait() == 0, str(made)
    seeder = lab.p2pfs("seed", "-f", "t.torrent", "-p", "0", "--json")
    seeder.event("ready")
    lab.await_scrape("t.torrent", complete=1, incomplete=0)
    return "t.torrent"


def fetch(lab: Lab, torrent: str, output: str) -> None:
    download = lab.p2pfs("download", torrent, "-p", "0", "-o", output, "--json")
    assert download.wait() == 0, str(download)
    assert lab.sha256(f"{output}/{NAME}") == lab.sha256(f"seeds/{NAME}")


def announce(torrent: TorrentId, number: int) -> AnnounceRequest:
    return AnnounceRequest(torrent, PeerId(b"%020d" % number), 1 + number % 65535, left=1)


async def test_who_cannot_prove_an_address_gets_16_bytes_and_has_nobody_listed(lab: Lab) -> None:
    tracker = lab.tracker()
    rng = random.Random(1)
    torrent = TorrentId(rng.randbytes(20))
    with (
        Asker(lab.tracker_port, source="127.66.6.6") as liar,
        Asker(lab.tracker_port, source="127.1.1.1") as victim,
    ):
        own = await liar.connection_id()
        guesses = [rng.randbytes(8) for _ in range(20_000)]
        for number, guess in enumerate([own, bytes(8), b"\xff" * 8, *guesses]):
            # sent in the name of the victim, by somebody who does not see what it gets
            victim.send(udp.encode_announce(guess, TID, announce(torrent, number)))
            victim.send(udp.encode_scrape(guess, TID, [torrent] * 74))
            if number % 50 == 0:
                assert await victim.is_ignored()
        spoofed = udp.encode_connect(TID) + bytes(1400)

        assert len(await victim.ask(spoofed)) == 16
        assert await victim.is_ignored()
        assert await liar.scrape(torrent) == [ScrapeEntry(0, 0, 0)]
    no_traceback(tracker)


async def test_among_random_packets_at_speed_honest_clients_are_answered(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    tracker = lab.tracker()
    torrent = await asyncio.to_thread(honest_torrent, lab)
    memory = tracker.memory_peak()
    shouting = flood(lab, "random", "10")
    url = f"udp://127.0.0.1:{lab.tracker_port}/announce"
    loop = asyncio.get_running_loop()
    times: list[float] = []
    unanswered = 0
    while shouting.alive:
        start = loop.time()
        try:
            await UdpAnnouncer().announce(
                url, announce(TorrentId(bytes(20)), 5), trusted=True, seconds=5.0
            )
            times.append(loop.time() - start)
        except NetworkError:
            unanswered += 1
    await asyncio.to_thread(shouting.wait)
    shouted = outcome(shouting)
    await asyncio.to_thread(fetch, lab, torrent, "after")

    times.sort()
    figures(
        f"{shouted['sent'] / shouted['seconds'] / 1e6:.1f} MB/s of nonsense; {len(times)} honest "
        f"announces, {unanswered} unanswered, median {1e3 * times[len(times) // 2]:.1f} ms, "
        f"99 % within {1e3 * times[len(times) * 99 // 100]:.1f} ms; "
        f"{(tracker.memory_peak() - memory) / 2**20:.1f} MiB more memory"
    )
    assert shouted["received"] == 0
    assert len(times) > 20 * unanswered
    assert tracker.memory_peak() - memory < 16 << 20
    no_traceback(tracker)


def test_connects_at_speed_get_no_more_bytes_than_they_have(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    tracker = lab.tracker()
    torrent = honest_torrent(lab)
    memory = tracker.memory_peak()

    flooding = flood(lab, "connects", "5")
    flooding.wait()
    found = outcome(flooding)
    fetch(lab, torrent, "after")

    figures(
        f"{found['sent'] / 16 / found['seconds']:,.0f} connects a second, "
        f"{found['heard'] / found['seconds']:,.0f} answered"
    )
    assert 0 < found["received"] <= found["sent"]
    assert found["received"] == 16 * found["heard"]
    assert tracker.memory_peak() - memory < 16 << 20
    no_traceback(tracker)


def test_half_a_million_invented_torrents_and_peers_leave_an_honest_swarm_alone(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    tracker = lab.tracker()
    torrent = honest_torrent(lab)
    plain = tracker.memory_peak()

    peers = flood(lab, "invented", "200000", "ee" * 20)
    until(lambda: not peers.alive, patience=LONG)
    first = tracker.memory_peak() - plain
    torrents = flood(lab, "invented", "500000")
    until(lambda: not torrents.alive, patience=LONG)
    more = tracker.memory_peak() - plain

    figures(
        f"200,000 invented peers: {first / 2**20:.0f} MiB more memory; and 500,000 invented "
        f"torrents: {more / 2**20:.0f} MiB"
    )
    assert plain + more < MEMORY
    assert lab.scrape(torrent).complete == 1
    fetch(lab, torrent, "first")
    fetch(lab, torrent, "second")
    no_traceback(tracker)
