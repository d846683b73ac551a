"""How many UDP requests a second `p2pfs tracker` answers, on one processor.

Starts a tracker and asks it as fast as it answers: connects, announces and scrapes as
50 : 50 : 1, for TORRENTS torrents by PEERS peers at addresses 127.x.y.z. Prints answers a
second, the processor time that the tracker took for each (what it could do on a processor
of its own follows from that), and the times until the answer.
Usage: bench_udp_tracker.py [SECONDS] [TORRENTS] [PEERS]; Linux.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.geometry import PeerId, TorrentId

_ASKERS = 32
_AT_ONCE = 16
"""Questions of one asker that are under way at the same time."""
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Asker:
    """One address with its questions, made before the clock starts."""

    def __init__(self, number: int, port: int, torrents: int, peers: int) -> None:
        rng = random.Random(number)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((f"127.{1 + number}.0.1", 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(5)
        self.sock.send(udp.encode_connect(bytes(4)))
        connection_id = udp.parse_connect_reply(self.sock.recv(2048))
        self.sock.setblocking(False)
        self.questions: list[bytes] = []
        for turn in range(2000):
            known = TorrentId(rng.randrange(torrents).to_bytes(20, "big"))
            peer = number + _ASKERS * rng.randrange(max(1, peers // _ASKERS))
            asked = AnnounceRequest(
                known, PeerId(b"%020d" % peer), 1 + peer % 65535, left=peer % 3,
                numwant=50, key=b"%08X" % (peer + 1),
            )  # fmt: skip
            self.questions.append(udp.encode_connect(bytes(4)))
            self.questions.append(udp.encode_announce(connection_id, bytes(4), asked))
            if turn % 50 == 0:
                self.questions.append(udp.encode_scrape(connection_id, bytes(4), [known] * 10))
        self.next = 0
        self.sent: list[float] = []

    def ask(self) -> None:
        self.sock.send(self.questions[self.next % len(self.questions)])
        self.next += 1
        self.sent.append(time.perf_counter())


def load(askers: list[Asker], seconds: float) -> tuple[int, list[float]]:
    """Answers, and how long some of them took (in order, so the times are near enough)."""
    poll = select.epoll()
    by_number = {asker.sock.fileno(): asker for asker in askers}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    waits: list[float] = []
    answers = 0
    for asker in askers:
        for _ in range(_AT_ONCE):
            asker.ask()
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        ready = poll.poll(0.1)
        if not ready:  # all lost: ask again
            for asker in askers:
                asker.sent.clear()
                for _ in range(_AT_ONCE):
                    asker.ask()
        for number, _ in ready:
            asker = by_number[number]
            try:
                for _ in range(_AT_ONCE):
                    asker.sock.recv(2048)
                    answers += 1
                    if asker.sent:
                        waits.append(now - asker.sent.pop(0))
                    asker.ask()
            except BlockingIOError:
                pass
    return answers, waits


def main(seconds: float, torrents: int, peers: int) -> None:
    tracker = subprocess.Popen(
        [sys.executable, "-m", "p2pfs", "tracker", "-d", "0", "--json"],
        stdout=subprocess.PIPE,
    )
    assert tracker.stdout is not None
    try:
        port = json.loads(tracker.stdout.readline())["port"]
        askers = [Asker(number, port, torrents, peers) for number in range(_ASKERS)]
        load(askers, seconds / 4)  # the peers are known after that
        before = cpu_seconds(tracker.pid)
        answers, waits = load(askers, seconds)
        used = cpu_seconds(tracker.pid) - before
    finally:
        tracker.terminate()
        tracker.wait()
    waits.sort()
    print(f"{torrents} torrents, {peers} peers, connect : announce : scrape = 50 : 50 : 1")
    print(f"answers a second:                 {answers / seconds:,.0f}")
    print(f"processor time for each:          {1e6 * used / answers:.1f} us")
    print(f"answers per second of processor:  {answers / used:,.0f}")
    print(
        f"time until the answer:            median {1e3 * waits[len(waits) // 2]:.1f} ms, "
        f"99 % within {1e3 * waits[len(waits) * 99 // 100]:.1f} ms"
    )


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:4]]
    duration, swarms, others = given + [10.0, 1000.0, 20_000.0][len(given) :]
    main(duration, int(swarms), int(others))
