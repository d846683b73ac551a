"""A relay between a downloader and a seeder that keeps account of every block.

Both ends are real; the relay reads along and changes nothing. It counts by the messages of
BEP 3 alone, with no code of the program under test.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

PATIENCE = 60.0
HANDSHAKE = 68
GREETING = -1
"""The kind under which the handshake is told; messages are told by their id."""
HAVE, BITFIELD, REQUEST, PIECE = 4, 5, 6, 7


class Passage:
    """One connection through the relay, as its messages tell it."""

    def __init__(self) -> None:
        self.bitfield: set[int] = set()
        """Pieces that the downloader had when it connected."""
        self.haves: set[int] = set()
        """Pieces that it announced since."""
        self.requested: set[int] = set()
        """Pieces of which it asked for anything."""
        self.delivered: Counter[int] = Counter()
        """Payload bytes of whole messages that went to it, by piece."""
        self.open = True

    @property
    def verified(self) -> set[int]:
        """What the downloader is known to have had."""
        return self.bitfield | self.haves

    def from_downloader(self, kind: int, body: bytes) -> None:
        if kind == HAVE:
            self.haves.add(int.from_bytes(body[:4], "big"))
        elif kind == BITFIELD:
            bits = enumerate(f"{byte:08b}" for byte in body)
            self.bitfield = {8 * n + i for n, byte in bits for i in range(8) if byte[i] == "1"}
        elif kind == REQUEST:
            self.requested.add(int.from_bytes(body[:4], "big"))

    def from_seeder(self, kind: int, body: bytes) -> None:
        if kind == PIECE:
            self.delivered[int.from_bytes(body[:4], "big")] += len(body) - 8


class Messages:
    """Cuts one direction of a connection into messages."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._data = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> None:
        self._data += data
        if not self._greeted:
            if len(self._data) < HANDSHAKE:
                return
            self._greeted = True
            self._take(GREETING, bytes(self._data[:HANDSHAKE]))
            del self._data[:HANDSHAKE]
        while len(self._data) >= 4:
            length = int.from_bytes(self._data[:4], "big")
            if len(self._data) < 4 + length:
                return
            if length:
                self._take(self._data[4], bytes(self._data[5 : 4 + length]))
            del self._data[: 4 + length]


class Relay:
    """Listens on `port` of 127.0.0.1 and passes every connection on to `target`."""

    def __init__(self, target: int, passage: Callable[[], Passage] = Passage) -> None:
        self.passages: list[Passage] = []
        self._passage = passage
        self._target = target
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                downloader, _ = self._listener.accept()
                seeder = socket.create_connection(("127.0.0.1", self._target))
                passage = self._passage()
                with self._changed:
                    self.passages.append(passage)
                    self._sockets += [downloader, seeder]
                for source, sink, take in (
                    (downloader, seeder, passage.from_downloader),
                    (seeder, downloader, passage.from_seeder),
                ):
                    work = (passage, source, sink, Messages(take))
                    threading.Thread(target=self._pump, args=work, daemon=True).start()

    def _pump(
        self, passage: Passage, source: socket.socket, sink: socket.socket, messages: Messages
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._changed:
                    messages.feed(data)
                    self._changed.notify_all()
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with self._changed:
            passage.open = False
            self._changed.notify_all()

    @property
    def delivered(self) -> int:
        """Payload bytes that went to downloaders, over all connections."""
        return sum(passage.delivered.total() for passage in self.passages)

    def passage(self, number: int) -> Passage:
        """The connection of this number, counted from 0, as soon as there is one."""
        self._wait(lambda: len(self.passages) > number)
        return self.passages[number]

    def wait_delivered(self, total: float) -> None:
        self._wait(lambda: self.delivered >= total)

    def wait_verified(
        self, passage: Passage, piece_size: Callable[[int], int], total: float
    ) -> None:
        """Until the downloader said that it has so many bytes."""
        self._wait(lambda: sum(map(piece_size, passage.verified)) >= total)

    def wait_closed(self, passage: Passage) -> None:
        self._wait(lambda: not passage.open)

    def _wait(self, happened: Callable[[], bool]) -> None:
        """Until `happened`, which is asked again after everything that passes."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not happened():
                assert time.monotonic() < deadline, "not in time at the relay"
                self._changed.wait(1.0)
