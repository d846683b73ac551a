"""UDP trackers and their clients, that say whatever bytes a test wants and show what they hear."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, PackedReply
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import TorrentId

PATIENCE = 20.0


class Asker:
    """One UDP socket that talks to one tracker; `source` is an address of its own."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str | None = None) -> None:
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(self._family, socket.SOCK_DGRAM)
        if source is not None:
            self._sock.bind((source, 0))
        self._sock.connect((host, port))
        self._sock.setblocking(False)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.send(data)

    async def heard(self) -> bytes:
        """The next datagram that comes back."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self._sock, 65536)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.heard()

    async def is_ignored(self, *datagrams: bytes) -> bool:
        """Whether nothing comes back: a question that is answered is asked after them."""
        for data in datagrams:
            self.send(data)
        last = os.urandom(4)
        return udp.parse_reply_header(await self.ask(udp.encode_connect(last)))[1] == last

    async def connection_id(self) -> bytes:
        transaction = os.urandom(4)
        reply = await self.ask(udp.encode_connect(transaction))
        assert udp.parse_reply_header(reply) == (udp.Action.CONNECT, transaction)
        assert len(reply) == 16
        return udp.parse_connect_reply(reply)

    async def announce(self, request: AnnounceRequest) -> AnnounceReply:
        """A whole announce, as a client does it."""
        connection_id, transaction = await self.connection_id(), os.urandom(4)
        reply = await self.ask(udp.encode_announce(connection_id, transaction, request))
        assert udp.parse_reply_header(reply) == (udp.Action.ANNOUNCE, transaction), reply
        return udp.parse_announce_reply(reply, 16 if self._family == socket.AF_INET6 else 4)

    async def scrape(self, *torrents: TorrentId) -> list[ScrapeEntry]:
        connection_id, transaction = await self.connection_id(), os.urandom(4)
        reply = await self.ask(udp.encode_scrape(connection_id, transaction, torrents))
        assert udp.parse_reply_header(reply) == (udp.Action.SCRAPE, transaction), reply
        return udp.parse_scrape_reply(reply, len(torrents))


Reaction = Callable[["FakeTracker", bytes], Iterable[bytes]]


class FakeTracker(asyncio.DatagramProtocol):
    """Sends back whatever `react` makes of each datagram; keeps what it was sent."""

    def __init__(self, react: Reaction) -> None:
        self.heard: list[bytes] = []
        self.sources: set[tuple[str, int]] = set()
        self.port = 0
        self._react = react
        self._transport: Any = None

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self.port}/announce"

    @property
    def actions(self) -> list[int]:
        """What was asked for, in order."""
        return [int.from_bytes(data[8:12], "big") for data in self.heard]

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self.heard.append(data)
        self.sources.add(source)
        for reply in self._react(self, data):
            self._transport.sendto(reply, source)

    async def __aenter__(self) -> FakeTracker:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        await asyncio.sleep(0)


FAKE_ID = b"\x11\x22\x33\x44\x55\x66\x77\x88"


def well_behaved(tracker: FakeTracker, data: bytes) -> list[bytes]:
    """What a tracker with one peer answers."""
    _, action, transaction = udp.REQUEST_HEADER.unpack_from(data)
    if action == udp.Action.CONNECT:
        return [udp.encode_connect_reply(transaction, FAKE_ID)]
    if action == udp.Action.ANNOUNCE:
        one = PackedReply(interval=77, complete=1, peers=b"\x0a\0\0\1\0\5")
        return [udp.encode_announce_reply(transaction, one, ipv6=False)]
    asked = udp.parse_scrape(data)
    return [udp.encode_scrape_reply(transaction, [ScrapeEntry(1, 2, 3)] * len(asked))]
