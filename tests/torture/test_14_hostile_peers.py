"""Case 14: a million messages, legal and not, in any order, from peers that keep a memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab, Running, no_traceback, until
from tests.support.hostile_peer import Hostile, torment

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="takes many loopback addresses"),
]

NAME = "content.bin"
SIZE = 64 << 20
MESSAGES = 1_000_000
AT_ONCE = 8
MEMORY = 48 << 20
"""Bytes by which the victim may grow, pieces in progress included."""


def descriptors(process: Running) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208


def test_a_million_messages_of_hostile_peers_neither_break_nor_stop_a_download(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    seed = time.time_ns() % 2**32
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "64KiB")
    honest = lab.seed("-f", torrent, "--up-limit", "1M")
    victim = lab.download(torrent, "-o", "victim", "--keep-seeding", "-v")
    before, memory = descriptors(victim), victim.memory_peak()
    port = victim.event("ready")["port"]
    metainfo = lab.metainfo(torrent)
    hostile = [Hostile(port, metainfo, data, seed + number) for number in range(AT_ONCE)]

    start = time.monotonic()
    torment(hostile, MESSAGES, 1500)
    seconds = time.monotonic() - start
    took = victim.cpu_seconds()
    victim.event("complete")
    until(lambda: victim.ask()["peers"] <= 1)
    after = descriptors(victim)
    honest.leave()
    leecher = lab.download(torrent, "-o", "after")
    assert leecher.wait() == 0

    said = sum(one.said for one in hostile)
    grown = victim.memory_peak() - memory
    closed = sum(one.closed for one in hostile)
    figures(
        f"seed {seed}: {said} messages on {sum(one.connections for one in hostile)} connections "
        f"in {seconds:.0f} s, {closed} of them closed by the victim; its processor time "
        f"{took:.0f} s, its memory {grown / 2**20:.0f} MiB more"
    )
    assert said >= MESSAGES
    assert lab.sha256(f"victim/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert lab.sha256(f"after/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert after <= before + 5
    assert grown <= MEMORY
    no_traceback(victim, honest, leecher)
    assert not [line for line in victim.errors if "fault of ours" in line]
