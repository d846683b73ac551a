"""One peer connection: the handshake, then a session's bytes to and from its stream.

Invariant: nothing is sent to an incoming connection before it has named an info hash that
we share; after the handshake every byte goes to the exchange of that torrent.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, Protocol

from p2pfs.errors import NetworkError, P2pfsError, WireError
from p2pfs.formats import wire
from p2pfs.net.stream import Stream, open_stream

if TYPE_CHECKING:
    from p2pfs.net.exchange import Exchange
    from p2pfs.net.limits import DownLimit
    from p2pfs.swarm.peer import Peer

__all__ = ["Connection", "ConnectionOwner"]

HANDSHAKE_TIMEOUT: Final = 10.0


class ConnectionOwner(Protocol):
    """What a connection needs of the client it belongs to."""

    @property
    def down_limit(self) -> DownLimit: ...

    @property
    def disk_busy(self) -> bool: ...

    def find_exchange(self, info_hash: bytes) -> Exchange | None:
        """The torrent that an incoming handshake asks for."""
        ...

    def connection_closed(self, connection: Connection) -> None: ...


class Connection:
    """`exchange` is given for an outgoing connection, and found for an incoming one."""

    stream: Stream

    def __init__(
        self, owner: ConnectionOwner, address: tuple[str, int], exchange: Exchange | None
    ) -> None:
        self.owner = owner
        self.address = address
        self.outgoing = exchange is not None
        self.exchange = exchange
        self.peer: Peer | None = None
        self.closing = ""
        """Why we close it, once we do."""
        self._greeting = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, sock: socket.socket) -> None:
        """Start on a connected, non-blocking socket."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT, self.close, "no handshake in time")
        self.stream = await open_stream(sock, self)
        if self.exchange is not None:
            self._send_handshake(self.exchange)

    def _send_handshake(self, exchange: Exchange) -> None:
        self.stream.write(wire.encode_handshake(exchange.handshake()))
        self.stream.flush()

    def close(self, reason: str) -> None:
        self.closing = self.closing or reason
        self.stream.close(NetworkError(reason))

    # -- what the stream tells

    def receive_allowance(self) -> int:
        if self.owner.disk_busy:
            return 0
        allowance = self.owner.down_limit.allowance()
        if allowance < 1:
            self.owner.down_limit.wait(self.stream)
        return allowance

    def data_received(self, data: memoryview) -> None:
        self.owner.down_limit.took(len(data), self.stream)
        try:
            if self.peer is not None:
                assert self.exchange is not None
                self.exchange.received(self, data)
            else:
                self._receive_greeting(data)
        except P2pfsError as error:
            self.close(str(error))

    def _receive_greeting(self, data: memoryview) -> None:
        self._greeting += data
        handshake = wire.decode_handshake(self._greeting)
        if handshake is None:
            return
        incoming = self.exchange is None
        if incoming:
            self.exchange = self.owner.find_exchange(handshake.info_hash)
        exchange = self.exchange
        if exchange is None or handshake.info_hash != exchange.info_hash:
            raise WireError("the handshake is for a torrent that is not shared here")
        if incoming:
            self._send_handshake(exchange)
        if self._timer is not None:
            self._timer.cancel()
        self.peer = exchange.join(self, handshake)
        rest = bytes(self._greeting[wire.HANDSHAKE_LENGTH :])
        self._greeting.clear()
        if rest:
            exchange.received(self, memoryview(rest))

    def drained(self) -> None:
        if self.exchange is not None:
            self.exchange.push_soon()

    def closed(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.closing:
            self.closing = "closed by the peer" if error is None else str(error)
        if self.exchange is not None and self.peer is not None:
            self.exchange.left(self)
        self.owner.connection_closed(self)
