"""Floods a UDP tracker, in a process of its own; prints what came of it as one JSON object.

Usage: udp_flood.py PORT random SECONDS | connects SECONDS | invented COUNT [INFO_HASH]
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.geometry import PeerId, TorrentId

_AT_ONCE = 32


def open_socket(port: int, source: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def random_packets(port: int, seconds: float) -> dict[str, float]:
    """Packets of random bytes and lengths, none of which deserves an answer."""
    return _pour(port, [os.urandom(1 + 7 * n % 200) for n in range(1000)], seconds)


def connects(port: int, seconds: float) -> dict[str, float]:
    """Connect requests at speed: each of them is answered, with as many bytes as it has."""
    return _pour(port, [udp.encode_connect(os.urandom(4)) for _ in range(1000)], seconds)


def _pour(port: int, packets: list[bytes], seconds: float) -> dict[str, float]:
    sock = open_socket(port, "127.9.9.9")
    sent = received = lost = heard = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for packet in packets:
            try:
                sock.send(packet)
                sent += len(packet)
            except (BlockingIOError, ConnectionRefusedError):
                lost += 1
        try:
            while True:
                received += len(sock.recv(65536))
                heard += 1
        except BlockingIOError:
            pass
    return {"sent": sent, "received": received, "heard": heard, "lost": lost, "seconds": seconds}


def invented(port: int, count: int, info_hash: bytes | None) -> dict[str, float]:
    """Peers that do not exist, each in a torrent of its own, or all in one; in turns from
    sixteen addresses, each waiting for its answers."""
    askers = [open_socket(port, f"127.{1 + number}.0.1") for number in range(16)]
    poll = select.poll()
    for asker in askers:
        poll.register(asker, select.POLLIN)
    ids: dict[int, bytes] = {}
    sent = heard = 0

    def announce(asker: socket.socket) -> None:
        nonlocal sent
        torrent = TorrentId(info_hash or os.urandom(20))
        request = AnnounceRequest(torrent, PeerId(os.urandom(20)), 1 + sent % 65535, left=1)
        key = ids[asker.fileno()]
        asker.send(udp.encode_announce(key, bytes(4), request))
        sent += 1

    start = time.monotonic()
    while heard < count:
        if not ids or time.monotonic() - start > 45:  # ids end by themselves
            start = time.monotonic()
            for asker in askers:
                asker.setblocking(True)
                asker.send(udp.encode_connect(b"conn"))
                while (reply := asker.recv(65536))[:8] != b"\0\0\0\0conn":
                    heard += 1
                ids[asker.fileno()] = udp.parse_connect_reply(reply)
                asker.setblocking(False)
                for _ in range(_AT_ONCE):
                    announce(asker)
        by_number = {asker.fileno(): asker for asker in askers}
        ready = poll.poll(200)
        for number, _ in ready:
            try:
                for _ in range(_AT_ONCE):
                    by_number[number].recv(65536)
                    heard += 1
                    announce(by_number[number])
            except BlockingIOError:
                pass
        if not ready:
            for asker in askers:
                announce(asker)
    return {"sent": sent, "heard": heard}


def main() -> None:
    port, what, amount = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if what == "invented":
        info_hash = bytes.fromhex(sys.argv[4]) if len(sys.argv) > 4 else None
        found = invented(port, int(amount), info_hash)
    else:
        pour = {"random": random_packets, "connects": connects}[what]
        found = pour(port, float(amount))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
