"""Announces over HTTP and UDP (rows 11 and 12), and a million peers (row 13).

Both trackers know 20,000 peers of one torrent and return 50 of them to each announce. What
counts is the announces answered for each second of processor time of the tracker, as it has
one core's worth of it: so the client, which is Python too, is never what is measured. A
connection carries one HTTP announce.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import quote_from_bytes

from idle import cpu_seconds, memory_mib
from results import Result, ratios
from rows import Bench, Skipped

__all__ = ["http", "million", "udp"]

PEERS = 20_000
RETURNED = 50
TORRENT = bytes(range(100, 120))
CONNECT = 0x41727101980
AT_ONCE = 64
ANNOUNCES = 1000
"""New peers a second while a million are dropped."""


# -- trackers


@contextlib.contextmanager
def _ours() -> Iterator[tuple[int, int]]:
    """Port and process number of a `p2pfs tracker`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfs", "tracker", "--bind", "127.0.0.1", "-d", "0", "--json"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"], process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _opentracker() -> Iterator[tuple[int, int]]:
    program = shutil.which("opentracker")
    if program is None:
        raise Skipped("opentracker is not installed (Debian: apt install opentracker)")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # it gives up its rights, and reads the list afterwards
        Path(folder, "white.list").write_text(f"{TORRENT.hex()}\n", encoding="ascii")
        process = subprocess.Popen(
            [
                *(program, "-i", "127.0.0.1", "-p", str(port), "-P", str(port)),
                "-d",
                folder,
                "-w",
                "white.list",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > until:
                    raise Skipped("opentracker did not start")
                time.sleep(0.02)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


TRACKERS = {"p2pfs": _ours, "opentracker": _opentracker}


# -- over HTTP


def _question(number: int) -> bytes:
    peer = quote_from_bytes(b"-XX0000-%012d" % number, safe="")
    torrent = quote_from_bytes(TORRENT, safe="")
    return (
        f"GET /announce?info_hash={torrent}&peer_id={peer}&port={1 + number % 65000}&uploaded=0"
        f"&downloaded=0&left=1&compact=1&numwant={RETURNED}&key={number:08x} HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\nUser-Agent: bench/1\r\nConnection: close\r\n\r\n"
    ).encode()


def _ask_http(port: int, numbers: Iterator[int], count: int) -> None:
    """`count` announces, a connection each, `AT_ONCE` of them at a time."""
    poll = select.epoll()
    open_now: dict[int, tuple[socket.socket, list[bytes]]] = {}

    def begin() -> None:
        sock = socket.socket()
        sock.connect(("127.0.0.1", port))
        sock.send(_question(next(numbers)))
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
        open_now[sock.fileno()] = sock, []

    for _ in range(min(AT_ONCE, count)):
        begin()
    started = len(open_now)
    while open_now:
        ready = poll.poll(10)
        if not ready:
            raise SystemExit("the tracker does not answer")
        for number, _ in ready:
            sock, parts = open_now[number]
            data = sock.recv(65536)
            if data:
                parts.append(data)
                continue
            answer = b"".join(parts)
            if b"200" not in answer[:16] or b"5:peers" not in answer:
                raise SystemExit(f"the tracker answered {answer[:200]!r}")
            poll.unregister(number)
            sock.close()
            del open_now[number]
            if started < count:
                begin()
                started += 1


# -- over UDP


def _ask_udp(port: int, numbers: Iterator[int], count: int) -> None:
    """`count` announces from one address, `AT_ONCE` under way; what is lost is asked again.

    It never sleeps: a tracker that had to wake it for each answer would pay for that. What
    it sends is made beforehand: a tracker that had to wait for each question would pay, too.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(0.5)
    sock.send(struct.pack(">QI4s", CONNECT, 0, b"conn"))
    connection_id = sock.recv(2048)[8:16]
    sock.setblocking(False)
    questions = [
        connection_id
        + struct.pack(">I4s20s", 1, b"anno", TORRENT)
        + b"-XX0000-%012d" % number
        + struct.pack(">QQQII", 0, 1, 0, 0, 0)
        + struct.pack(">IiH", number, RETURNED, 1 + number % 65000)
        for number in islice(numbers, count + AT_ONCE)
    ]
    again = cycle(questions)
    answered, under_way = 0, 0
    heard = time.monotonic()
    while answered < count:
        while under_way < AT_ONCE and answered + under_way < count:
            sock.send(next(again))
            under_way += 1
        try:
            data = sock.recv(2048)
        except BlockingIOError:
            if time.monotonic() - heard > 0.5:
                under_way, heard = 0, time.monotonic()
            continue
        heard = time.monotonic()
        if data[:4] != b"\0\0\0\1":
            raise SystemExit(f"the tracker answered {data[:100]!r}")
        answered += 1
        under_way -= 1
    sock.close()


Ask = Callable[[int, Iterator[int], int], None]


def _capacity(bench: Bench, name: str, ask: Ask, count: int) -> float:
    """Announces for each second of the tracker's processor time."""
    rng = random.Random(4)

    def anybody() -> Iterator[int]:
        while True:
            yield rng.randrange(PEERS)

    with TRACKERS[name]() as (port, pid):
        _ask_udp(port, iter(range(2 * PEERS)), PEERS)
        ask(port, anybody(), count // 5)
        before, start = cpu_seconds(pid), time.monotonic()
        ask(port, anybody(), count)
        used, took = cpu_seconds(pid) - before, time.monotonic() - start
    bench.say(
        f"{name:12} {count / used:9,.0f} announces per CPU second "
        f"({count / took:,.0f} a second were asked)"
    )
    return count / used


def _compared(bench: Bench, key: str, ask: Ask, count: int) -> list[Result]:
    count = max(2000, round(count * bench.scale))
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(_capacity(bench, "p2pfs", ask, count))
        theirs.append(_capacity(bench, "opentracker", ask, count))
    note = f"{PEERS:,} peers, {RETURNED} returned; for each CPU second of the tracker"
    return [ratios(key, ours, theirs, "announces/s", note)]


def http(bench: Bench) -> list[Result]:
    return _compared(bench, "11", _ask_http, 40_000)


def udp(bench: Bench) -> list[Result]:
    return _compared(bench, "12", _ask_udp, 150_000)


# -- a million


def million(bench: Bench) -> list[Result]:
    """Memory with a million peers, and the slowest announces while they are dropped."""
    count = max(20_000, round(1_000_000 * bench.scale))
    answer = subprocess.run(
        [sys.executable, __file__, str(count)], check=True, capture_output=True, text=True
    )
    found = json.loads(answer.stdout)
    bench.say(f"{found['memory_mib']:.0f} MiB, p99 {found['p99_ms']:.2f} ms")
    note = f"{count:,} peers in {count // 100:,} swarms"
    return [
        Result("13a", [found["memory_mib"]], [found["memory_mib"]], shown_in="MiB", note=note),
        Result("13b", [found["p99_ms"]], [found["p99_ms"]], shown_in="ms", note=note),
    ]


def _fill_and_expire(count: int) -> None:
    """In a process of its own: memory is that of the store and of Python.

    An announce waits for those before it and for the sweep that is under way when it comes.
    """
    from p2pfs.geometry import TorrentId
    from p2pfs.net.index_keeping import SWEEP_BUDGET, SWEEP_EVERY
    from p2pfs.tracker.peer_store import MemoryPeerStore, PeerKind, SwarmPeer

    rng = random.Random(5)
    store = MemoryPeerStore(660.0, rng=rng)
    swarms = [TorrentId(rng.randbytes(20)) for _ in range(count // 100)]

    def announce(number: int, now: float) -> None:
        host = (0x0B000000 + number).to_bytes(4, "big")
        peer = SwarmPeer(b"-XX0000-%012d" % number, b"%08X" % number, host, 6881)
        kind = PeerKind.SEED if number % 3 == 0 else PeerKind.DOWNLOADER
        store.announce(swarms[number % len(swarms)], peer, kind, now=now, numwant=50)

    for number in range(count):
        announce(number, now=600.0 * number / count)
    memory = memory_mib(os.getpid())
    waits: list[float] = []
    now, number = 700.0, count
    while store.peer_count > count // 20 and now < 3000:
        before = time.perf_counter()
        store.expire(now, SWEEP_BUDGET)
        busy_until = time.perf_counter() - before
        for arrival in sorted(rng.random() * SWEEP_EVERY for _ in range(ANNOUNCES)):
            before = time.perf_counter()
            announce(number, now)
            busy_until = max(busy_until, arrival) + time.perf_counter() - before
            waits.append(busy_until - arrival)
            number += 1
        now += SWEEP_EVERY
    waits.sort()
    print(json.dumps({"memory_mib": memory, "p99_ms": waits[len(waits) * 99 // 100] * 1e3}))


if __name__ == "__main__":
    _fill_and_expire(int(sys.argv[1]))
