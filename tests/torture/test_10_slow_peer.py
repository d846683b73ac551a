"""Case 10: a peer that gives 1 KB a second holds nobody up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab
from tests.support import fake_peer
from tests.support.fake_peer import Wire
from tests.support.fake_seeder import Account, Block, fake_seeder

pytestmark = pytest.mark.torture

NAME = "content.bin"
SIZE = 64 << 20


def slow_after(good: int, account: Account) -> Callable[[Wire, Block, bytes], None]:
    """Gives `good` blocks at once, the others at 1 KB a second."""

    def give(wire: Wire, block: Block, content: bytes) -> None:
        message = fake_peer.block(block[0], block[1], content)
        if len(account.sent) < good:
            wire.send(message)
            return
        for start in range(0, len(message), 256):
            wire.send(message[start : start + 256])
            time.sleep(0.25)

    return give


@pytest.mark.parametrize("good", [0, 200])
def test_a_peer_at_1_kb_a_second_costs_less_than_a_third_more_time(
    good: int, lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    lab.seed("-f", torrent, "--up-limit", "8M")
    account = Account()
    seconds = []
    for folder, slow in (("alone", False), ("beside", True)):
        with contextlib.ExitStack() as stack:
            if slow:
                peer = fake_seeder(lab.metainfo(torrent), data, account, slow_after(good, account))
                stack.enter_context(peer).announce(lab.announce_url)
            downloader = lab.download(torrent, "-o", folder)
            assert downloader.wait() == 0, str(downloader)
            seconds.append(downloader.last("complete")["seconds"])
    (state,) = downloader.last("final")["torrents"]
    figures(
        f"{good} blocks at once, then 1 KB/s: {seconds[0]:.2f} s without it, "
        f"{seconds[1]:.2f} s beside it ({seconds[1] / seconds[0]:.2f} times); "
        f"it still owed {account.owed} of {len(account.requested)} asked of it; "
        f"{state['wasted']} bytes came twice"
    )
    assert lab.sha256(f"beside/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert account.requested
    assert seconds[1] <= 1.3 * seconds[0]
