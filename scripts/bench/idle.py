"""A seeder with 500 connected peers that want nothing (row 15): processor and memory.

The peers are sockets of this process that said their handshake and that they have nothing;
they read what the seeder says and say nothing more.
"""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path

from contest import Content, End, started_seeder
from results import Result
from rows import LIBTORRENTS, Bench

__all__ = ["peers"]

PEERS = 500
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell the memory of a process")


def _connect(port: int, info_hash: bytes, number: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), timeout=20)
    peer.sendall(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-%012d" % number)
    answer = b""
    while len(answer) < 68:
        data = peer.recv(4096)
        if not data:
            raise SystemExit(f"the seeder closed the connection of peer {number}")
        answer += data
    return peer


def _idle(bench: Bench, name: str, content: Content, info_hash: bytes) -> tuple[float, float]:
    seconds = max(5.0, 30.0 * bench.scale)
    with started_seeder(End(name), content) as (port, pid):
        peers = [_connect(port, info_hash, number) for number in range(PEERS)]
        try:
            poll = select.epoll()
            for peer in peers:
                peer.setblocking(False)
                poll.register(peer.fileno(), select.EPOLLIN)
            time.sleep(2)  # what connecting costs is over
            before, start = cpu_seconds(pid), time.monotonic()
            by_number = {peer.fileno(): peer for peer in peers}
            while (left := start + seconds - time.monotonic()) > 0:
                for number, _ in poll.poll(left):
                    if not by_number[number].recv(65536):
                        raise SystemExit(f"{name} closed the connection of an idle peer")
            share = (cpu_seconds(pid) - before) / (time.monotonic() - start) * 100
            memory = memory_mib(pid)
        finally:
            for peer in peers:
                peer.close()
    bench.say(f"{name:14} {share:5.2f} % of a core, {memory:5.0f} MiB")
    return share, memory


def peers(bench: Bench) -> list[Result]:
    import p2pfs

    content = bench.content(64, 256 * 1024)
    info_hash = p2pfs.parse_torrent(content.torrent.read_bytes()).torrent_id.v1
    ours, theirs = [], []
    for _ in range(min(bench.pairs, 3)):
        ours.append(_idle(bench, "p2pfs", content, info_hash))
        theirs.append(_idle(bench, "libtorrent", content, info_hash))
    note = LIBTORRENTS["libtorrent"]
    cpu, their_cpu = [one[0] for one in ours], [one[0] for one in theirs]
    memory, their_memory = [one[1] for one in ours], [one[1] for one in theirs]
    return [
        Result("15a", cpu, cpu, their_cpu, "% of a core", note),
        Result("15b", memory, memory, their_memory, "MiB", note),
    ]
