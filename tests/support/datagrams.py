"""A client of UDP trackers that says whatever bytes a test wants, and hears what comes back."""

from __future__ import annotations

import asyncio
import os
import socket

from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest
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
