"""Case 8: one of eight peers corrupts 5 % of its blocks; it alone is banned, and soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab
from tests.support import fake_peer
from tests.support.fake_peer import Wire
from tests.support.fake_seeder import Account, Block, fake_seeder

pytestmark = pytest.mark.torture

NAME = "content.bin"
SIZE = 32 << 20


def test_a_peer_that_corrupts_one_block_in_twenty_is_banned_and_nobody_else(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    seed = time.time_ns() % 2**32
    rng = random.Random(seed)
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    seeders = [
        lab.p2pfs("seed", *lab.where, "-f", torrent, "--up-limit", "700k", "--json")
        for _ in range(7)
    ]
    for seeder in seeders:
        seeder.event("ready")
    account = Account()
    bad = 0

    def give(wire: Wire, block: Block, content: bytes) -> None:
        nonlocal bad
        if rng.random() < 0.05:
            bad += 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        time.sleep(len(content) / 1e6)
        wire.send(fake_peer.block(block[0], block[1], content))

    with fake_seeder(lab.metainfo(torrent), data, account, give) as corrupter:
        corrupter.announce(lab.announce_url)
        downloader = lab.download(torrent, "-v")
        assert downloader.wait() == 0, str(downloader)

    (state,) = downloader.last("final")["torrents"]
    bans = {
        line.partition("net.exchange: ")[2] for line in downloader.errors if "is banned" in line
    }
    failures = state["hash_failures"]
    figures(
        f"seed {seed}: {bad} of {len(account.sent)} blocks bad, {failures} failed pieces, "
        f"banned: {len(bans)}; {state['wasted']} bytes of {SIZE} wasted"
    )
    assert lab.sha256(f"output/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert bad
    assert failures <= 4
    assert len(bans) == 1
    assert str(corrupter.port) in bans.pop()
    assert not corrupter.trouble
    gave = {source["address"]: source["bytes_down"] for source in state["sources"]}
    assert len([address for address, count in gave.items() if count]) == 8
