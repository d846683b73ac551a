"""Carries out, over the connections of a torrent without metadata, what `MetadataFetching` decides.

Invariant: as of `Exchange`, after every event who was convicted is closed, and what the sessions
have to send is on its way. Nothing of what a peer says leaves here before it is verified, but
addresses, which are hearsay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from p2pfs.errors import NetworkError, WireError
from p2pfs.formats.extension import UT_METADATA, UT_PEX, ExtendedHandshake, offer
from p2pfs.formats.peer_id import client_name
from p2pfs.formats.wire import Handshake
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.exchange import Exchange, packed_host, settle_duplicate
from p2pfs.net.sending import MAX_UNREAD
from p2pfs.swarm.bare_session import BareSession
from p2pfs.swarm.events import Breached, Event, Extended, PeerExtended
from p2pfs.swarm.metadata import MetadataFetching
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address
from p2pfs.swarm.pex import PeerExchange

if TYPE_CHECKING:
    from p2pfs.geometry import Geometry
    from p2pfs.net.connection import Connection

__all__ = ["BareExchange"]

log = logging.getLogger(__name__)

MAX_PEERS: Final = 100
MAX_INCOMING: Final = 80
"""Of these at most so many that came by themselves: there is always one more to dial."""

IDLE_AFTER: Final = 20.0
"""Seconds after which a peer that is of no use for this makes way for a newcomer."""

REQUESTS: Final = 250


class BareExchangeOwner(Protocol):
    """What it tells the fetch that it works for."""

    def peer_joined(self, connection: Connection, peer_id: bytes) -> None: ...

    def peer_listens(self, address: Address) -> None: ...

    def peer_left(self, listened_at: Address | None) -> None: ...

    def met_ourselves(self, connection: Connection) -> None: ...

    def is_banned(self, host: str, peer_id: bytes) -> bool: ...

    def ban(self, host: str, peer_id: bytes) -> None:
        """It gave wrong metadata."""
        ...

    def heard_of(self, addresses: Iterable[Address]) -> None:
        """A peer says that there are others at `addresses`."""
        ...

    def fetched(self, metadata: bytes) -> None:
        """The info dictionary, whose hash is right; told once."""
        ...


class BareExchange:
    """`port` is where we listen; `peer_exchange`: peers may tell of others (BEP 11)."""

    def __init__(
        self,
        owner: BareExchangeOwner,
        torrent_id: TorrentId,
        peer_id: PeerId,
        *,
        port: int,
        peer_exchange: bool,
    ) -> None:
        self._owner = owner
        self.info_hash = torrent_id.v1
        self.peer_id = peer_id
        self._port = port
        self._loop = asyncio.get_running_loop()
        self.fetching = MetadataFetching(torrent_id)
        self._pex = PeerExchange() if peer_exchange else None
        self._handshakes: dict[Peer, Handshake] = {}
        self.connections: dict[Peer, Connection] = {}
        self._told = False
        self._pushing = False
        self._closed = False

    def handshake(self) -> Handshake:
        return Handshake(self.info_hash, self.peer_id)

    # -- connections

    def join(self, connection: Connection, handshake: Handshake) -> Peer:
        """A connection is through its handshake. Raises `NetworkError` when it is not wanted."""
        peer_id, host = handshake.peer_id, connection.address[0]
        if peer_id == self.peer_id:
            self._owner.met_ourselves(connection)
            raise NetworkError("connected to ourselves")
        if self._owner.is_banned(host, peer_id):
            raise NetworkError("banned: it sent metadata that failed the hash")
        now = self._loop.time()
        if self._closed or not self._has_room(now, incoming=not connection.outgoing):
            raise NetworkError("no more connections for this torrent")
        settle_duplicate(self.connections, self.peer_id, connection, peer_id, now)
        session = BareSession(now, extended=handshake.extended, fast=handshake.fast)
        peer = Peer(session, connection.address, peer_id, now, outgoing=connection.outgoing)
        self.connections[peer] = connection
        self._handshakes[peer] = handshake
        self._owner.peer_joined(connection, peer_id)
        session.greet()
        session.send_extended_handshake(
            ExtendedHandshake(
                client=client_name(self.peer_id),
                port=self._port,
                reqq=REQUESTS,
                messages=offer(UT_METADATA, *([UT_PEX] if self._pex is not None else [])),
                your_ip=packed_host(host),
            )
        )
        self.fetching.joined(peer)
        if self._pex is not None:
            self._pex.joined(peer, now)
        self.push_soon()
        return peer

    def _has_room(self, now: float, *, incoming: bool) -> bool:
        """Whether there is a place for a newcomer, or one could be made."""
        if incoming and sum(not peer.outgoing for peer in self.connections) >= MAX_INCOMING:
            return self._make_room(now, incoming=True)
        return len(self.connections) < MAX_PEERS or self._make_room(now)

    def _make_room(self, now: float, *, incoming: bool = False) -> bool:
        """Close who was there for a while and gives no metadata, whatever it offers.

        The one that failed most often to; `incoming`: of those that came by themselves.
        """
        useless = {
            peer: self.fetching.lapses(peer)
            for peer, connection in self.connections.items()
            if now - peer.connected_at >= IDLE_AFTER
            and not connection.closing
            and not (incoming and peer.outgoing)
        }
        peer = max(useless, key=useless.__getitem__, default=None)
        if peer is None or not useless[peer]:
            return False
        self.connections[peer].close("made way for a newcomer: it does not give metadata")
        return True

    def received(self, connection: Connection, data: memoryview) -> None:
        """Bytes of a joined peer; raises `WireError` when it is to be closed for them."""
        peer = connection.peer
        if peer is None or peer not in self.connections:
            return
        now = self._loop.time()
        try:
            for event in peer.session.receive_data(data, now):
                self._take(connection, peer, event, now)
        finally:
            self._settle()

    def _take(self, connection: Connection, peer: Peer, event: Event, now: float) -> None:
        if isinstance(event, Extended):
            if event.name == UT_METADATA:
                self.fetching.heard(peer, event.payload, now)
            elif self._pex is not None:
                others = self._pex.receive(peer, event.payload, now, finished=False)
                self._owner.heard_of(others)
        elif isinstance(event, PeerExtended):
            peer.client = event.handshake.client or peer.client
            if peer.listens_at is None and event.handshake.port:
                peer.listens_at = (connection.address[0], event.handshake.port)
                self._owner.peer_listens(peer.listens_at)
            self.fetching.introduced(peer, now)
        elif isinstance(event, Breached):
            raise WireError(event.reason)

    def left(self, connection: Connection) -> None:
        """The connection is closed; called once, by the connection."""
        peer = connection.peer
        if peer is None or self.connections.pop(peer, None) is None:
            return
        log.info("%s left: %s", connection.address, connection.closing)
        self._handshakes.pop(peer, None)
        self.fetching.left(peer, self._loop.time())
        if self._pex is not None:
            self._pex.left(peer)
        self._owner.peer_left(peer.listens_at)
        self._settle()

    # -- what follows from it

    def tick(self) -> None:
        """A few times a second."""
        now = self._loop.time()
        for peer, connection in list(self.connections.items()):
            try:
                peer.session.tick(now)
            except WireError as error:
                connection.close(str(error))
        self.fetching.tick(now)
        if len(self.connections) >= MAX_PEERS and self.fetching.result is None:
            self._make_room(now)  # for one that is dialled
        self._settle()

    def _settle(self) -> None:
        """Close who was convicted, send what there is to send, and tell when it is complete."""
        convicted, self.fetching.convicted = self.fetching.convicted, []
        for peer, reason in convicted:
            log.warning("%s is banned: %s", peer.address, reason)
            self._owner.ban(peer.address[0], peer.peer_id)
            connection = self.connections.get(peer)
            if connection is not None:
                connection.close(reason)
        result = self.fetching.result
        if result is not None and not self._told and not self._closed:
            self._told = True
            self._owner.fetched(result)
        self.push_soon()

    def push_soon(self) -> None:
        """Send what there is, in a later step of the event loop."""
        if not self._pushing:
            self._pushing = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._pushing = False
        now = self._loop.time()
        for peer, connection in list(self.connections.items()):
            if peer.session.has_data_to_send:
                for item in peer.session.data_to_send():
                    assert isinstance(item, bytes)
                    connection.stream.write(item)
                connection.stream.flush()
                peer.session.sent(now)
                if connection.stream.queued > MAX_UNREAD:
                    connection.close("does not read what it is sent")

    # -- the end

    def hand_over(self, exchange: Exchange, geometry: Geometry) -> None:
        """Let `exchange` go on with the connections as they are."""
        now = self._loop.time()
        self._push()
        for peer, connection in list(self.connections.items()):
            session = peer.session
            assert isinstance(session, BareSession)
            handshake = self._handshakes.pop(peer)
            del self.connections[peer]
            if not connection.closing:
                resumed, said = session.resume(geometry, now)
                join = partial(exchange.join, connection, handshake, resumed)
                connection.move(exchange, join, said)

    def close(self, reason: str) -> None:
        """Close every connection, and take no more."""
        self._closed = True
        for connection in list(self.connections.values()):
            connection.close(reason)
