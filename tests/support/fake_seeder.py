"""A seeder made of `FakePeer`: good, slow, corrupting or stalling, as a test wants it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfs.formats.metainfo import Metainfo
from tests.support import fake_peer
from tests.support.fake_peer import FakePeer, Told, Wire

Block = tuple[int, int, int]
"""Piece, begin and length of a request."""


@dataclass
class Account:
    """What a fake seeder was told, with times in seconds of the monotonic clock."""

    requested: dict[Block, float] = field(default_factory=dict)
    cancelled: dict[Block, float] = field(default_factory=dict)
    haves: dict[int, float] = field(default_factory=dict)
    sent: dict[Block, float] = field(default_factory=dict)

    @property
    def owed(self) -> int:
        """Blocks that it was asked for, and neither sent nor let off."""
        return len(self.requested.keys() - self.cancelled.keys() - self.sent.keys())

    def take(self, told: Told) -> None:
        now = time.monotonic()
        if told.kind == fake_peer.REQUEST:
            self.requested.setdefault(told.triple, now)
        elif told.kind == fake_peer.CANCEL:
            self.cancelled.setdefault(told.triple, now)
        elif told.kind == fake_peer.HAVE:
            self.haves.setdefault(int.from_bytes(told.body, "big"), now)


def fake_seeder(
    metainfo: Metainfo,
    content: bytes,
    account: Account,
    give: Callable[[Wire, Block, bytes], None],
) -> FakePeer:
    """Has everything, unchokes everybody, and calls `give` for one request after the other.

    It reads on all the time; what is cancelled before its turn is not given.
    """
    geometry = metainfo.geometry

    def behave(wire: Wire) -> None:
        asked: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        giver = threading.Thread(target=work, args=(wire, asked), daemon=True)
        giver.start()
        wire.send(fake_peer.everything(geometry.piece_count), fake_peer.message(fake_peer.UNCHOKE))
        while (told := wire.take()) is not None:
            account.take(told)
            if told.kind == fake_peer.REQUEST:
                asked.put(told.triple)
        asked.put(None)
        giver.join()

    def work(wire: Wire, asked: queue.SimpleQueue[Block | None]) -> None:
        with contextlib.suppress(OSError):  # it left
            while (block := asked.get()) is not None:
                if block in account.cancelled:
                    continue
                piece, begin, length = block
                start = piece * geometry.piece_length + begin
                give(wire, block, content[start : start + length])
                account.sent[block] = time.monotonic()

    return FakePeer(metainfo.torrent_id.v1, behave)
