"""A seeder made of `FakePeer`: good, slow, corrupting or stalling, as a test wants it."""

from __future__ import annotations

import contextlib
import queue
import re
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


class FakeMetadata:
    """Gives metadata in the pieces of BEP 9, by the ids that either end chose (BEP 10)."""

    OURS = 5
    """The id under which requests come."""

    def __init__(self, metadata: bytes) -> None:
        self.metadata = metadata
        self._theirs: dict[Wire, int] = {}

    def introduce(self, wire: Wire) -> None:
        told = b"d1:md11:ut_metadatai%dee13:metadata_sizei%dee" % (self.OURS, len(self.metadata))
        wire.send(fake_peer.message(fake_peer.EXTENDED, b"\0" + told))

    def take(self, wire: Wire, told: Told) -> None:
        """Answer, if it is about this."""
        if told.kind != fake_peer.EXTENDED:
            return
        named = re.search(rb"11:ut_metadatai(\d+)e", told.body)
        asked = re.search(rb"msg_typei0e5:piecei(\d+)e", told.body)
        if told.body[0] == 0 and named:
            self._theirs[wire] = int(named[1])
        elif told.body[0] == self.OURS and asked:
            start = int(asked[1]) * 16384
            size = b"10:total_sizei%dee" % len(self.metadata)
            head = b"d8:msg_typei1e5:piecei%de" % int(asked[1]) + size
            data = self.metadata[start : start + 16384]
            payload = bytes((self._theirs[wire],)) + head + data
            wire.send(fake_peer.message(fake_peer.EXTENDED, payload))


def fake_seeder(
    metainfo: Metainfo,
    content: bytes,
    account: Account,
    give: Callable[[Wire, Block, bytes], None],
) -> FakePeer:
    """Has everything, unchokes everybody, and calls `give` for one request after the other.

    It reads on all the time; what is cancelled before its turn is not given. Its metadata it
    gives to whoever asks for that (BEP 9).
    """
    geometry = metainfo.geometry
    metadata = FakeMetadata(metainfo.info_bytes)

    def behave(wire: Wire) -> None:
        metadata.introduce(wire)
        asked: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        giver = threading.Thread(target=work, args=(wire, asked), daemon=True)
        giver.start()
        wire.send(fake_peer.everything(geometry.piece_count), fake_peer.message(fake_peer.UNCHOKE))
        while (told := wire.take()) is not None:
            account.take(told)
            metadata.take(wire, told)
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

    return FakePeer(metainfo.torrent_id.v1, behave, reserved=fake_peer.EXTENSIONS)
