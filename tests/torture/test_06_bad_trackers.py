"""Case 6: a tracker that answers what no tracker should."""

from __future__ import annotations

import contextlib
import random
import socketserver
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.processes import Lab, no_traceback

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

NAME = "content.bin"
SIZE = 4 << 20
ALLOWED = 16 << 20
"""Bytes of memory that a bad tracker may cost."""

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


class BadTracker:
    """Answers every request with the same bytes, endless ones included."""

    def __init__(self, answer: Callable[[], Iterator[bytes]]) -> None:
        self.asked = 0
        tracker = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                tracker.asked += 1
                with contextlib.suppress(OSError):
                    self.request.recv(65536)
                    for part in answer():
                        self.request.sendall(part)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def garbage() -> Iterator[bytes]:
    yield OK + b"\r\n" + random.Random(1).randbytes(100_000)


def gzip_bomb() -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    yield OK + b"Content-Encoding: gzip\r\n\r\n"
    for _ in range(500):
        yield packer.compress(bytes(1 << 20))
    yield packer.flush()


def endless_body() -> Iterator[bytes]:
    yield OK + b"\r\n"
    while True:
        yield bytes(65536)


def endless_head() -> Iterator[bytes]:
    yield OK
    while True:
        yield b"A: " + b"b" * 4000 + b"\r\n"


def endless_drip() -> Iterator[bytes]:
    yield OK + b"\r\n"
    while True:
        yield b"d"
        time.sleep(0.01)


def redirect_loop() -> Iterator[bytes]:
    yield b"HTTP/1.1 302 Found\r\nLocation: /announce?again\r\nContent-Length: 0\r\n\r\n"


def nothing() -> Iterator[bytes]:
    yield b""


def deep_nesting() -> Iterator[bytes]:
    yield OK + b"\r\n" + b"l" * 1_000_000


@pytest.fixture
def swarm(lab: Lab) -> str:
    """A seeder at a good tracker; the .torrent, which names that."""
    lab.tracker("--interval", "30", "--min-interval", "5")
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    lab.seed("-f", torrent)
    return torrent


def memory_without(lab: Lab, torrent: str) -> int:
    """The most memory that the download takes with good trackers only."""
    leecher = lab.download(torrent, "-o", "plain", "--keep-seeding")
    leecher.event("complete")
    peak = leecher.memory_peak()
    leecher.leave()
    return peak


@pytest.mark.parametrize(
    "answer",
    [
        garbage,
        gzip_bomb,
        endless_body,
        endless_head,
        endless_drip,
        redirect_loop,
        nothing,
        deep_nesting,
    ],
)
def test_a_bad_tracker_costs_little_and_the_next_one_is_asked(
    answer: Callable[[], Iterator[bytes]],
    lab: Lab,
    swarm: str,
    figures: Callable[[str], None],
) -> None:
    plain = memory_without(lab, swarm)
    with contextlib.closing(BadTracker(answer)) as bad:
        start = time.monotonic()
        leecher = lab.p2pfs(
            "download", "-i", "127.0.0.1", "-d", str(bad.port), "-p", "0", "--json", swarm,
            "--keep-seeding",
        )  # fmt: skip
        leecher.event("complete")
        seconds = time.monotonic() - start
        more = leecher.memory_peak() - plain
        leecher.leave()

        figures(
            f"{answer.__name__}: complete after {seconds:.1f} s, {more / 1024:.0f} KiB more "
            f"memory, asked {bad.asked} times"
        )
        assert bad.asked >= 1
        assert more < ALLOWED
        assert seconds < 45
        assert lab.sha256(f"output/{NAME}") == lab.sha256(f"seeds/{NAME}")
        no_traceback(leecher)


@pytest.mark.parametrize("interval", [b"-1", b"0", b"1", b"2147483648", b"99999999999999999999"])
def test_a_hundred_thousand_peers_and_a_senseless_interval_do_no_harm(
    interval: bytes, lab: Lab, swarm: str, figures: Callable[[str], None]
) -> None:
    plain = memory_without(lab, swarm)
    rng = random.Random(1)
    good = lab.running[-2].event("ready")["port"]  # the seeder
    peers = [b"\x7f\0\0\1" + good.to_bytes(2, "big"), b"\x7f\0\0\1\0\0", b"\0\0\0\0\0\1"]
    peers += [b"\x7f" + rng.randbytes(3) + rng.randbytes(2) for _ in range(100_000)]
    body = b"d8:intervali%be12:min intervali%be5:peers%d:%be" % (
        interval, interval, 6 * len(peers), b"".join(peers),
    )  # fmt: skip

    with contextlib.closing(BadTracker(lambda: iter([OK + b"\r\n" + body]))) as bad:
        start = time.monotonic()
        leecher = lab.p2pfs(
            "download", "-i", "127.0.0.1", "-d", str(bad.port), "-p", "0", "--json", swarm,
            "--keep-seeding",
        )  # fmt: skip
        leecher.event("complete")
        more, asked, seconds = leecher.memory_peak() - plain, bad.asked, time.monotonic() - start
        leecher.leave()

        figures(
            f"interval {interval.decode()}: complete after {seconds:.1f} s, {more / 1024:.0f} KiB "
            f"more memory, asked {asked} times"
        )
        assert asked <= 2 + seconds / 5  # `started`, `completed`, and one in five seconds
        assert more < ALLOWED
        no_traceback(leecher)
