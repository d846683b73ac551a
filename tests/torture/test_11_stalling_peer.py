"""Case 11: a peer stops giving and looks alive ever after: keep-alives, or a byte a second."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab
from tests.support import fake_peer
from tests.support.fake_peer import KEEP_ALIVE, Wire
from tests.support.fake_seeder import Account, Block, fake_seeder

pytestmark = pytest.mark.torture

NAME = "content.bin"
SIZE = 8 << 20
GOOD_BLOCKS = 20


@pytest.mark.parametrize("inside", [False, True], ids=["between-blocks", "inside-a-block"])
def test_the_blocks_that_a_stalled_peer_owes_come_from_another(
    inside: bool, lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "64KiB")
    lab.seed("-f", torrent, "--up-limit", "200k")
    account = Account()
    stalled: list[tuple[Block, float]] = []

    def give(wire: Wire, block: Block, content: bytes) -> None:
        message = fake_peer.block(block[0], block[1], content)
        if len(account.sent) < GOOD_BLOCKS:
            wire.send(message)
            return
        stalled.append((block, time.monotonic()))
        sign_of_life = KEEP_ALIVE
        if inside:
            wire.send(message[:5000])
            sign_of_life = message[5000:5001]
        while True:
            time.sleep(1)
            wire.send(sign_of_life)

    with fake_seeder(lab.metainfo(torrent), data, account, give) as peer:
        peer.announce(lab.announce_url)
        downloader = lab.download(torrent)
        assert downloader.wait() == 0, str(downloader)
    ((piece, begin, _), since) = stalled[0]
    (state,) = downloader.last("final")["torrents"]
    snubbed = min(account.cancelled.values()) - since if account.cancelled else float("nan")
    came = account.haves.get(piece, float("nan")) - since
    figures(
        f"stalled {'inside' if inside else 'before'} block {begin // 16384} of piece {piece}: "
        f"other requests taken back after {snubbed:.1f} s, the piece came from another after "
        f"{came:.1f} s; {state['wasted']} bytes of {SIZE} came twice"
    )
    assert lab.sha256(f"output/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert snubbed <= 20.5
    assert came <= 25
    assert state["wasted"] <= 0.05 * SIZE
    assert not peer.trouble
