"""Case 13: a peer that asks for a million blocks and reads none."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab, no_traceback
from tests.support import fake_peer
from tests.support.fake_peer import Wire

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

NAME = "content.bin"
SIZE = 192 << 20
PIECE = 256 * 1024
REQUESTS = 1_000_000


class Glutton:
    """Asks without end, on a thread of its own; whether it was closed is in `over`."""

    def __init__(self, port: int, info_hash: bytes) -> None:
        self.sent = 0
        self.over = threading.Event()
        self._wire = Wire.dial(port)
        self._wire.send(fake_peer.handshake(info_hash, fake_peer.peer_id()))
        self._wire.take_handshake()
        self._wire.send(fake_peer.message(fake_peer.INTERESTED))
        while (told := self._wire.take()) is not None and told.kind != fake_peer.UNCHOKE:
            pass
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        pieces = SIZE // PIECE
        batch = b"".join(
            fake_peer.request(piece, begin)
            for piece in range(pieces)
            for begin in range(0, PIECE, 16384)
        )
        with contextlib.suppress(OSError):
            while self.sent < REQUESTS:
                self._wire.send(batch)
                self.sent += len(batch) // 17
        self.over.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._wire.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._wire.close()


def test_a_peer_that_asks_and_never_reads_costs_little_memory_and_little_time(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    info_hash = lab.metainfo(torrent).torrent_id.v1
    seeder = lab.seed("-f", torrent)
    port = seeder.event("ready")["port"]
    number = 0

    def seconds() -> float:
        """A whole download, from its start to its end."""
        nonlocal number
        number += 1
        leecher = lab.download(torrent, "-o", f"o{number}")
        event = leecher.event("complete")
        assert leecher.wait() == 0
        assert lab.sha256(f"o{number}/{NAME}") == lab.sha256(f"seeds/{NAME}")
        (lab.folder / f"o{number}" / NAME).unlink()
        return float(event["seconds"])

    seconds()
    memory = seeder.memory_peak()
    alone, beset, sent = [], [], 0
    for _ in range(5):
        alone.append(seconds())
        glutton = Glutton(port, info_hash)
        time.sleep(0.5)
        beset.append(seconds())
        sent = max(sent, glutton.sent)
        glutton.close()
    grown = seeder.memory_peak() - memory

    ratio = min(alone) / min(beset)  # the least disturbed of each
    figures(
        f"{sent} requests taken, {grown / 2**20:.1f} MiB more memory; a download took "
        f"{min(alone):.2f} s alone and {min(beset):.2f} s beside it "
        f"({ratio:.0%} of the throughput)"
    )
    assert grown < 4 << 20
    assert ratio >= 0.8
    no_traceback(seeder)
