"""A torrent that is known by its hash alone: it is announced, and peers are asked for the rest.

Invariant: nothing of the torrent touches the disk before its metadata is verified and has
passed the checks that every metainfo passes; then `hand_over` moves the connections to the
ordinary torrent as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from p2pfs.errors import FormatError, NetworkError, P2pfsError, WireError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.extension import UT_METADATA, UT_PEX, ExtendedHandshake, offer
from p2pfs.formats.magnet import Magnet
from p2pfs.formats.metainfo import Metainfo, parse_info
from p2pfs.formats.peer_id import client_name
from p2pfs.formats.wire import Handshake
from p2pfs.geometry import PeerId
from p2pfs.net.dialler import Dialler
from p2pfs.net.exchange import packed_host, settle_duplicate
from p2pfs.net.housekeeping import RESTS
from p2pfs.net.sending import MAX_UNREAD
from p2pfs.net.tried import Fetched, Tried
from p2pfs.swarm.bare_session import BareSession
from p2pfs.swarm.events import Breached, Event, Extended, PeerExtended
from p2pfs.swarm.metadata import MetadataFetching
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address
from p2pfs.swarm.pex import PeerExchange

if TYPE_CHECKING:
    from p2pfs.net.announcer import Announcer
    from p2pfs.net.connection import Connection
    from p2pfs.net.engine import Client
    from p2pfs.net.torrent import Torrent

__all__ = ["UNKNOWN_LEFT", "MetadataFetch"]

log = logging.getLogger(__name__)

UNKNOWN_LEFT: Final = 16 * 1024
"""Bytes that are left to download as trackers are told, while nobody knows how many are."""

MAX_PEERS: Final = 100
IDLE_AFTER: Final = 20.0
"""Seconds after which a peer that is of no use for this makes way for a newcomer."""

REQUESTS: Final = 250
RESOLVE_AGAIN: Final = 30.0
"""Seconds after which a name that could not be resolved is tried again; longer each time."""

MAX_RESOLVE_AGAIN: Final = 600.0


class MetadataFetch:
    """Made by `Client.fetch_metadata`; `wait` gives the metainfo."""

    announcer: Announcer

    def __init__(self, client: Client, magnet: Magnet, peer_id: PeerId, rng: random.Random) -> None:
        self.magnet = magnet
        self.info_hash = magnet.torrent_id.v1
        self.peer_id = peer_id
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._dialler = Dialler(self, self._connect, rng)
        self._fetching = MetadataFetching(magnet.torrent_id)
        self._pex = PeerExchange() if client.peer_exchange else None
        self._handshakes: dict[Peer, Handshake] = {}
        self.connections: dict[Peer, Connection] = {}
        self._tried = Tried()
        self._done: asyncio.Future[Metainfo] = self._loop.create_future()
        self._checking: asyncio.Task[None] | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._pushing = False

    def start(self) -> None:
        """Announce and dial; called by the client once."""
        self.announcer.start()
        self._resolving = self._loop.create_task(self._dial_named(), name="peers of the link")
        self.wake()

    # -- what users ask

    @property
    def connected(self) -> Sequence[Peer]:
        """The peers that are there."""
        return tuple(self.connections)

    @property
    def finished(self) -> bool:
        """Whether the metadata is there, or cannot be used."""
        return self._done.done()

    def progress(self) -> Fetched:
        """How far it is, now."""
        done, total = self._fetching.done
        return Fetched(
            name=self.magnet.shown,
            info_hash=str(self.magnet.torrent_id),
            peers=len(self.connections),
            sources=self._fetching.sources,
            bytes_done=done,
            bytes_total=total,
            tracker=self.announcer.status,
            tried=self._tried.explain(
                self.announcer.status,
                too_large=self._fetching.too_large,
                no_source=bool(self.connections) and not self._fetching.sources,
            ),
        )

    async def wait(self) -> Metainfo:
        """Until the metadata is there; the torrent, with the trackers and web seeds of the link.

        Raises `MetainfoError` or `BencodeError` for metadata that nobody can use, and
        `NetworkError` when this is closed before.
        """
        return await asyncio.shield(self._done)

    def add_peers(self, addresses: Iterable[Address], *, hearsay: bool = False) -> None:
        """Addresses to dial; `hearsay`: of whoever says so."""
        addresses = list(addresses)
        for address in addresses:
            self._tried.heard_of(address, hearsay=hearsay)
        self._dialler.add(addresses, hearsay=hearsay)

    def found_peers(self, peers: Iterable[PeerAddress]) -> None:
        """Addresses from a tracker."""
        peers = list(peers)
        for peer in peers:
            self._tried.heard_of((peer.host, peer.port), hearsay=False)
        self._dialler.found(peers)

    async def _dial_named(self) -> None:
        """The peers that the link names; of a name all its addresses, once it has some."""
        named = list(self.magnet.peers)
        pause = RESOLVE_AGAIN
        while named := [one for one in named if not await self._dial_at(*one)]:
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RESOLVE_AGAIN)

    async def _dial_at(self, host: str, port: int) -> bool:
        """Whether the address of the peer is known now."""
        if packed_host(host):
            self.add_peers([(host, port)])
            return True
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._tried.unreached((host, port), _reason(error))
            self._tried.heard_of((host, port), hearsay=False)
            return False
        self._tried.resolved((host, port))
        self.add_peers((str(address[0]), port) for *_, address in found)
        return True

    async def _connect(self, address: Address) -> None:
        try:
            await self._client.dial(address, self)
        except (OSError, P2pfsError) as error:
            self._tried.unreached(address, _reason(error))
            raise

    # -- connections; as of an exchange

    def handshake(self) -> Handshake:
        return Handshake(self.info_hash, self.peer_id)

    def join(self, connection: Connection, handshake: Handshake) -> Peer:
        """A connection is through its handshake. Raises `NetworkError` when it is not wanted."""
        peer_id, host = handshake.peer_id, connection.address[0]
        now = self._loop.time()
        if peer_id == self.peer_id:
            if connection.outgoing:
                self._dialler.book.is_ourselves(connection.address)
            raise NetworkError("connected to ourselves")
        if self._dialler.book.is_banned(host, peer_id, now):
            raise NetworkError("banned: it sent metadata that failed the hash")
        full = len(self.connections) >= MAX_PEERS and not self._make_room(now)
        if full or self._closing is not None:
            raise NetworkError("no more connections for this torrent")
        settle_duplicate(self.connections, self.peer_id, connection, peer_id, now)
        session = BareSession(now, extended=handshake.extended, fast=handshake.fast)
        peer = Peer(session, connection.address, peer_id, now, outgoing=connection.outgoing)
        self.connections[peer] = connection
        self._handshakes[peer] = handshake
        self._tried.met(peer_id, connection.address if connection.outgoing else None)
        if connection.outgoing:
            self._dialler.book.connected(connection.address)
        session.greet()
        session.send_extended_handshake(
            ExtendedHandshake(
                client=client_name(self.peer_id),
                port=self._client.port,
                reqq=REQUESTS,
                messages=offer(UT_METADATA, *([UT_PEX] if self._pex is not None else [])),
                your_ip=packed_host(host),
            )
        )
        self._fetching.joined(peer)
        if self._pex is not None:
            self._pex.joined(peer, now)
        self.push_soon()
        return peer

    def _make_room(self, now: float) -> bool:
        """Close a peer that was there for a while and does not offer metadata."""
        for peer, connection in self.connections.items():
            idle = now - peer.connected_at >= IDLE_AFTER
            if idle and UT_METADATA not in peer.session.peer_extensions and not connection.closing:
                connection.close("made way for a newcomer: it does not give metadata")
                return True
        return False

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
                self._fetching.heard(peer, event.payload, now)
            elif self._pex is not None:
                self.add_peers(
                    self._pex.receive(peer, event.payload, now, finished=False), hearsay=True
                )
        elif isinstance(event, PeerExtended):
            peer.client = event.handshake.client or peer.client
            if peer.listens_at is None and event.handshake.port:
                peer.listens_at = (connection.address[0], event.handshake.port)
                self._dialler.book.connected(peer.listens_at)
            self._fetching.introduced(peer, now)
        elif isinstance(event, Breached):
            raise WireError(event.reason)

    def left(self, connection: Connection) -> None:
        """The connection is closed; called once, by the connection."""
        peer = connection.peer
        if peer is None or self.connections.pop(peer, None) is None:
            return
        log.info("%s left: %s", connection.address, connection.closing)
        self._handshakes.pop(peer, None)
        self._fetching.left(peer, self._loop.time())
        if self._pex is not None:
            self._pex.left(peer)
        if peer.listens_at is not None:
            self._dialler.lost(peer.listens_at, failed=True)
        self._settle()

    def connection_failed(self, connection: Connection) -> None:
        """An outgoing connection that ended before its handshake was through."""
        self._tried.unreached(connection.address, connection.closing)
        self._dialler.lost(connection.address, failed=True)

    # -- what follows from it

    def _settle(self) -> None:
        """Close who was convicted, send what there is to send, and see whether it is complete."""
        convicted, self._fetching.convicted = self._fetching.convicted, []
        for peer, reason in convicted:
            log.warning("%s is banned: %s", peer.address, reason)
            self._dialler.book.ban(peer.address[0], peer.peer_id, self._loop.time())
            self._tried.ban(peer.address[0], peer.peer_id)
            connection = self.connections.get(peer)
            if connection is not None:
                connection.close(reason)
        result = self._fetching.result
        if result is not None and self._checking is None and self._closing is None:
            self._checking = self._loop.create_task(self._check(result), name="metadata")
        self.push_soon()

    async def _check(self, metadata: bytes) -> None:
        """The one door: metadata whose hash is right may be hostile all the same."""
        try:
            metainfo = await asyncio.to_thread(_parse, metadata, self.magnet)
        except FormatError as error:
            self._done.set_exception(error)
            self._done.exception()  # nobody need be waiting
        else:
            self._done.set_result(metainfo)

    def push_soon(self) -> None:
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

    def tend(self) -> float:
        """What is to be done a few times a second; see `Tended`."""
        if self._closing is not None:
            return RESTS
        now = self._loop.time()
        for peer, connection in list(self.connections.items()):
            try:
                peer.session.tick(now)
            except WireError as error:
                connection.close(str(error))
        self._fetching.tick(now)
        self._settle()
        if not self.finished:
            self._dialler.dial()
            self.announcer.need_peers(not self._fetching.sources)
        return 0.0

    def wake(self) -> None:
        """There is something to do."""
        self._client.housekeeper.wake(self)

    # -- the end

    async def hand_over(self, torrent: Torrent) -> None:
        """Let `torrent`, which has the metadata, go on with the connections and what is known."""
        now = self._loop.time()
        self._push()
        for host, peer_id in self._tried.banned:
            torrent.ban(host, peer_id)
        for peer, connection in list(self.connections.items()):
            session = peer.session
            assert isinstance(session, BareSession)
            handshake = self._handshakes[peer]
            del self.connections[peer]
            if not connection.closing:
                resumed, said = session.resume(torrent.metainfo.geometry, now)
                join = partial(torrent.exchange.join, connection, handshake, resumed)
                connection.move(torrent.exchange, join, said)
        torrent.add_peers(self._tried.known(hearsay=False))
        for address in self._tried.known(hearsay=True):
            torrent.called_by(address)
        await self.close(leave=False)

    async def close(self, *, leave: bool = True) -> None:
        """End it, whatever its state; `leave`: the trackers are told. May be called again."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(leave), name="close")
        await asyncio.shield(self._closing)

    async def _close(self, leave: bool) -> None:
        self._client.housekeeper.forget(self)
        tasks = [task for task in (self._resolving, self._checking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dialler.close()
        for connection in list(self.connections.values()):
            connection.close("the torrent is closed")
        if leave:
            await self.announcer.stop()
        self._client.forget_fetch(self)
        if not self._done.done():
            reason = f"{self.magnet.shown} was closed before its metadata was there"
            self._done.set_exception(NetworkError(reason))
            self._done.exception()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        known = os.strerror(error.errno) if error.errno > 0 else error.strerror
        return known or str(error)
    return str(error) or "no answer in time"


def _parse(metadata: bytes, magnet: Magnet) -> Metainfo:
    return parse_info(
        metadata, trackers=[[url] for url in magnet.trackers], web_seeds=magnet.web_seeds
    )
