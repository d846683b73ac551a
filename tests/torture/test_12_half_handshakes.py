"""Case 12: two thousand half handshakes, a byte every five seconds, at a seeder and a tracker."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.processes import Lab, Running, no_traceback

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc"),
]

NAME = "content.bin"
SIZE = 4 << 20
CROWD = 2000


class Slowloris:
    """Connections that send `greeting` a byte at a time, the first ones at once."""

    def __init__(self, port: int, count: int, greeting: bytes, at_once: int) -> None:
        self._greeting = greeting
        self._sent = at_once
        self._open: dict[socket.socket, float] = {}
        self.lifetimes: list[float] = []
        """Seconds until the other end closed, of those that it closed."""
        self.refused = 0
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        for _ in range(count):
            try:
                sock = socket.create_connection(("127.0.0.1", port), 10)
                sock.sendall(greeting[:at_once])
            except OSError:
                self.refused += 1
                continue
            sock.setblocking(False)
            self._open[sock] = time.monotonic()
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()

    @property
    def open(self) -> int:
        return len(self._open)

    def wait(self, seconds: float) -> None:
        """Until the other end has closed them all, but no longer than this."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            time.sleep(0.1)

    def _drip(self) -> None:
        next_byte = time.monotonic() + 5
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                self._closed(sock)
            if time.monotonic() >= next_byte:
                next_byte += 5
                byte = self._greeting[self._sent : self._sent + 1]
                self._sent += 1
                for sock in list(self._open):
                    with contextlib.suppress(OSError):
                        sock.send(byte)

    def _closed(self, sock: socket.socket) -> None:
        self.lifetimes.append(time.monotonic() - self._open.pop(sock))
        self._selector.unregister(sock)
        sock.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self._open:
            sock.close()
        self._selector.close()


@contextlib.contextmanager
def crowd(port: int, count: int, greeting: bytes, at_once: int) -> Iterator[Slowloris]:
    made = Slowloris(port, count, greeting, at_once)
    try:
        yield made
    finally:
        made.close()


def descriptors(process: Running) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208


def test_half_handshakes_keep_no_honest_peer_out(lab: Lab, figures: Callable[[str], None]) -> None:
    lab.tracker()
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    seeder = lab.seed("-f", torrent)
    port = seeder.event("ready")["port"]
    before = descriptors(seeder)

    with crowd(port, CROWD, b"\x13BitTorrent protocol" + bytes(48), 15) as slow:
        most = descriptors(seeder)
        start = time.monotonic()
        leecher = lab.download(torrent)
        leecher.event("complete")
        seconds = time.monotonic() - start
        most = max(most, descriptors(seeder))
        slow.wait(12)
        left, longest = slow.open, max(slow.lifetimes)
    after = descriptors(seeder)

    figures(
        f"{CROWD} half handshakes: {most - before} descriptors at most, the last one closed after "
        f"{longest:.1f} s; an honest peer had {SIZE >> 20} MiB {seconds:.1f} s after it was started"
    )
    assert left == 0
    assert longest <= 11
    assert most - before <= 300
    assert after <= before + 5
    assert seconds <= 5
    no_traceback(seeder, leecher)


def test_half_requests_keep_no_honest_peer_from_the_tracker(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    tracker = lab.tracker()
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    head = b"GET /announce?info_hash=" + b"a" * 60 + b" HTTP/1.1\r\nHost: tracker\r\n\r\n"

    with crowd(lab.tracker_port, CROWD, head, 20) as slow:
        lab.seed("-f", torrent)
        start = time.monotonic()
        leecher = lab.download(torrent)
        leecher.event("complete")
        seconds = time.monotonic() - start
        held = descriptors(tracker)
        slow.wait(20)
        left, longest = slow.open, max(slow.lifetimes, default=0.0)

    figures(
        f"{CROWD} half requests: {held} descriptors at the tracker when an honest peer had its "
        f"content, {seconds:.1f} s after it was started; the last one closed after {longest:.1f} s"
    )
    assert left == 0
    assert seconds <= 8
    no_traceback(tracker, leecher)
