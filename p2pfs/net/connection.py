"""One peer connection: the handshake, then a session's bytes to and from its stream.

Invariant: nothing of ours is sent to an incoming connection before it has named an info hash
that we share (but our key, to one that begins encrypted); after the handshake every byte goes
to the exchange of that torrent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Final, Protocol

from p2pfs.errors import NetworkError, P2pfsError, WireError
from p2pfs.formats import wire
from p2pfs.formats.obfuscation import Cipher, DisguisedGreeting
from p2pfs.geometry import BLOCK_LENGTH
from p2pfs.net.enciphered_stream import EncipheredStream
from p2pfs.net.gathering import CAN_READ
from p2pfs.net.stream import Stream, open_stream

if TYPE_CHECKING:
    from p2pfs.net.limits import DownLimit
    from p2pfs.swarm.peer import Peer

__all__ = ["Connection", "ConnectionOwner", "Party"]

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT: Final = 10.0

BURDEN_SHARE: Final = 0.05
"""How much of our processor time the small messages of one peer may take, beyond what it earns."""

EARNED: Final = 20e-6 / BLOCK_LENGTH
"""Seconds that each byte it takes from us earns a peer: its request took a tenth of that."""

GIVEN: Final = 500e-6 / BLOCK_LENGTH
"""Seconds that each byte of a block it gives us may take: much more than it needs, for
slow machines."""

BURDEN_BURST: Final = 0.1
"""Seconds of our time that they may take at once; then the peer waits until that is paid back."""

MAX_TALK: Final = 64 * 1024
"""Bytes received at once from a peer that gives us no blocks: small messages take up to twenty
times their size while they are handled."""

MAX_TRUST: Final = 1024 * 1024
"""Bytes beyond those that are received at once from a peer that gives us blocks."""


class Party(Protocol):
    """The torrent that a connection is for."""

    info_hash: bytes

    def handshake(self) -> wire.Handshake:
        """What we say first."""
        ...

    def join(self, connection: Connection, handshake: wire.Handshake) -> Peer:
        """It is through its handshake. Raises `NetworkError` when it is not wanted."""
        ...

    def received(self, connection: Connection, data: memoryview) -> None: ...

    def left(self, connection: Connection) -> None: ...

    def push_soon(self) -> None:
        """There is room for more to send."""
        ...


class ConnectionOwner(Protocol):
    """What a connection needs of the client it belongs to."""

    @property
    def down_limit(self) -> DownLimit: ...

    @property
    def disk_busy(self) -> bool: ...

    def connection_joined(self, connection: Connection) -> None:
        """It is through its handshake."""
        ...

    def find_exchange(self, info_hash: bytes) -> Party | None:
        """The torrent that an incoming handshake asks for."""
        ...

    def find_disguised(self, name: bytes) -> bytes | None:
        """The info hash of a torrent that a disguised handshake asks for."""
        ...

    def connection_closed(self, connection: Connection) -> None: ...


class Connection:
    """`exchange` is given for an outgoing connection, and found for an incoming one."""

    stream: Stream
    """Set by `open`."""

    def __init__(
        self, owner: ConnectionOwner, address: tuple[str, int], exchange: Party | None
    ) -> None:
        self.owner = owner
        self.address = address
        self.outgoing = exchange is not None
        self.exchange = exchange
        self.peer: Peer | None = None
        self.closing = ""
        """Why we close it, once we do."""
        self._greeting = bytearray()
        self._disguised: DisguisedGreeting | None = None
        self._heard: Cipher | None = None
        """Deciphers what comes, for a peer that insists on that."""
        self._timer: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._trust = 0  # bytes of blocks that it gave lately, less those of all else
        self._owed_time = 0.0
        self._owed_at = 0.0
        self._taken = 0
        self._opened = False

    async def open(self, sock: socket.socket) -> None:
        """Start on a connected, non-blocking socket, which is ours from here on.

        Raises `OSError`, and `NetworkError` when it was closed meanwhile.
        """
        if self.closing:
            sock.close()
            raise NetworkError(self.closing)
        stream = await open_stream(sock, self)
        self.stream = stream
        self._opened = True
        if self.closing:
            stream.close(NetworkError(self.closing))
            return
        self._timer = asyncio.get_running_loop().call_later(
            HANDSHAKE_TIMEOUT, self.close, "no handshake in time"
        )
        if self.exchange is not None:
            self._send_handshake(self.exchange)

    def move(self, exchange: Party, join: Callable[[], Peer], said: bytes) -> None:
        """Go on for another party of the same torrent: `join` it, and receive `said` there."""
        self.exchange = exchange
        try:
            self.peer = join()
            exchange.received(self, memoryview(said))
        except P2pfsError as error:
            self.close(str(error))

    def _send_handshake(self, exchange: Party) -> None:
        self.stream.write(wire.encode_handshake(exchange.handshake()))
        self.stream.flush()

    def close(self, reason: str) -> None:
        """Close at once, also while it is still being opened."""
        self.closing = self.closing or reason
        if self._opened:
            self.stream.close(NetworkError(reason))

    def resume(self) -> None:
        """Receive again, if that is allowed now."""
        if self._opened:
            self.stream.resume()

    # -- what the stream tells

    def receive_allowance(self) -> int:
        if self.owner.disk_busy:
            return 0
        allowance = self.owner.down_limit.allowance()
        if allowance < 1:
            self.owner.down_limit.wait(self.stream)
        elif self.peer is None or not self.peer.session.outstanding:
            return min(allowance, MAX_TALK)
        return min(allowance, MAX_TALK + self._trust)

    def data_received(self, data: memoryview) -> None:
        self.owner.down_limit.took(len(data), self.stream)
        peer = self.peer
        total = 0 if peer is None else peer.down.total
        start = thread_time()
        try:
            if peer is not None:
                assert self.exchange is not None
                if self._heard is not None:
                    data = memoryview(self._heard.apply(data))
                self.exchange.received(self, data)
            else:
                self._receive_greeting(data)
        except P2pfsError as error:
            self.close(str(error))
        except Exception:
            log.exception("a fault of ours while handling what %s sent", self.address)
            self.close("a fault of ours")
        if peer is None:
            return
        given = peer.down.total - total
        self._trust = min(MAX_TRUST, max(0, self._trust + 2 * given - len(data)))
        spent = thread_time() - start - GIVEN * given
        if spent > 0.0:
            self._burden(peer, spent)

    def _burden(self, peer: Peer, spent: float) -> None:
        """What is no block took `spent` seconds: who has us handle much has to wait at times."""
        now = perf_counter()
        paid = BURDEN_SHARE * (now - self._owed_at) + EARNED * (peer.up.total - self._taken)
        self._owed_time = max(0.0, self._owed_time - paid) + spent
        self._owed_at = now
        self._taken = peer.up.total
        if self._owed_time > BURDEN_BURST:
            self.stream.pause()
            if self._resting is not None:
                self._resting.cancel()
            loop = asyncio.get_running_loop()
            self._resting = loop.call_later(self._owed_time / BURDEN_SHARE, self.resume)

    def _receive_greeting(self, data: memoryview) -> None:
        incoming = self.exchange is None
        if incoming and not self._undisguise(data):
            return
        self._greeting += data if self._disguised is None else self._disguised.plain()
        handshake = wire.decode_handshake(self._greeting)
        if handshake is None:
            return
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
        self.owner.connection_joined(self)
        self._disguised = None
        rest = bytes(self._greeting[wire.HANDSHAKE_LENGTH :])
        self._greeting.clear()
        if rest:
            exchange.received(self, memoryview(rest))

    def _undisguise(self, data: memoryview) -> bool:
        """Whether what the caller says can be read: from its first byte on, or by now."""
        disguised = self._disguised
        if disguised is None:
            start = bytes(self._greeting[:20]) + bytes(data[:20])
            if wire.may_be_handshake(start):
                return True
            if wire.is_other_protocol(start):
                raise WireError("not a BitTorrent handshake")
            disguised = self._disguised = DisguisedGreeting(
                secrets.randbits(160), self.owner.find_disguised, rc4=CAN_READ
            )
            data = memoryview(bytes(self._greeting) + bytes(data))
            self._greeting.clear()
        answer = disguised.receive(data)
        if answer:
            self.stream.write(answer)
            self.stream.flush()
        if disguised.ciphers is not None and self._heard is None:
            self._heard, said = disguised.ciphers
            self.stream = EncipheredStream(self.stream, said)
        return disguised.understood

    def drained(self) -> None:
        self.stream.flush()
        if self.exchange is not None:
            self.exchange.push_soon()

    def closed(self, error: Exception | None) -> None:
        for timer in (self._timer, self._resting):
            if timer is not None:
                timer.cancel()
        if not self.closing:
            self.closing = "closed by the peer" if error is None else str(error)
        try:
            if self.exchange is not None and self.peer is not None:
                self.exchange.left(self)
        finally:
            self.owner.connection_closed(self)
